"""A study on Ray is given more while it runs: workers go on, and its actor's next life knows of it."""

from pathlib import Path

import pytest
import ray
from studies import SLOWLY, begin, check_laws, events, run_to_end, specification, wait_for

from orchestrator.domain.errors import InvalidSpace, InvalidSpecification
from orchestrator.domain.space import Space
from orchestrator.domain.specification import Budget
from orchestrator.study import read_study

pytestmark = pytest.mark.ray

WIDER = {
    "x": {"min": -5.0, "max": 5.0},
    "y": {"min": -500.0, "max": 500.0},
    "kind": {"values": ["plain", "rich"], "default": "plain"},
}


@pytest.mark.parametrize("execution", ["pooled", pytest.param("tune", marks=pytest.mark.long)])
def test_a_running_study_takes_a_wider_space_and_an_older_file_takes_nothing_back(
    ray_session: str, tmp_path: Path, execution: str
) -> None:
    given = specification(
        tmp_path, f"wider-{execution}", trainable=SLOWLY, search="sobol", budget={"trials": 4}, execution=execution
    )
    running = begin(given, ray_session)
    wait_for(lambda: running.status()["best"], "a first value")
    with pytest.raises(InvalidSpace, match="'y' is missing"):
        running.extend(None, None, {"x": WIDER["x"]})
    with pytest.raises(InvalidSpecification, match="4 trials already"):
        running.extend(3, None)
    running.extend(10, None, WIDER)
    ray.kill(running.study, no_restart=False)
    again = begin(given, ray_session)  # the old file, and an actor that had only that one when it was made
    ended = run_to_end(again)
    runner = again.runner_status()
    again.release()
    assert (ended["reason"], ended["trials"], ended["budget"]["trials"]) == ("finished", 10, 10)
    assert runner["hook_errors"] == []
    check_laws(given.with_changes(budget=Budget(10)))
    state = read_study(tmp_path, given.study).state
    first = ended["widened"][0]["first_trial"]
    old, new = state.trials[:first], state.trials[first:]
    assert first <= 4
    assert all(trial.params["kind"] == "plain" and abs(trial.params["y"]) <= 5 for trial in old)
    assert any(abs(trial.params["y"]) > 5 for trial in new)
    assert {trial.params["kind"] for trial in new} == {"plain", "rich"}
    assert state.specification.space == Space.from_dict(WIDER)
    assert sum(event["type"] == "extended" for event in events(given)) == 1

"""The three ways to run a study make the same decisions."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from studies import begin, check_laws, events, run_to_end, specification

from orchestrator.domain.specification import StudySpecification
from orchestrator.study import StudyKeeper
from orchestrator.tuning.code import Code, trial_defaults
from orchestrator.tuning.inline import run_inline
from orchestrator.tuning.workshop import Workshop

pytestmark = pytest.mark.ray


def course(given: StudySpecification) -> list[tuple[Any, ...]]:
    """Everything that was decided, in order, without times and names of workers."""
    kept = []
    for event in events(given):
        match event["type"]:
            case "suggested":
                kept.append(("suggested", event["trial"], tuple(sorted(event["params"].items()))))
            case "started":
                kept.append(("started", event["trial"], event["attempt"], event["step"]))
            case "decided":
                kept.append(("decided", event["trial"], event["step"], event["decision"]))
            case "finished":
                kept.append(("finished", event["trial"]))
    return kept


def run_without_ray(given: StudySpecification) -> None:
    code = Code.named(given.trainable)
    storage = Path(given.storage)
    keeper = StudyKeeper.open(
        given, time.time, storage=storage, defaults=trial_defaults(code.resolve()), code_sha256=code.sha256
    )
    run_inline(keeper, Workshop(given, code, None, storage))
    keeper.close()


CASES = {
    "random": ("random", "pause", ("inline", "pooled", "tune")),
    "tpe": ("tpe", "pause", ("inline", "pooled")),
    "stopping": ("sobol", "stop", ("inline", "pooled", "tune")),
}


@pytest.mark.parametrize("case", ["random", "tpe", pytest.param("stopping", marks=pytest.mark.long)])
def test_all_executions_decide_alike_with_one_worker(ray_session: str, tmp_path: Path, case: str) -> None:
    engine, mode, executions = CASES[case]
    courses = {}
    for execution in executions:
        given = specification(
            tmp_path / execution, f"alike-{case}", search=engine, execution=execution, resources={"concurrent": 1}
        )
        given = given.with_changes(scheduler=replace(given.scheduler, mode=mode))
        if execution == "inline":
            run_without_ray(given)
        else:
            running = begin(given, ray_session)
            run_to_end(running)
            assert running.runner_status()["hook_errors"] == []
            running.release()
        check_laws(given)
        courses[execution] = course(given)
    assert len(courses["inline"]) > 30
    for execution, decided in courses.items():
        assert decided == courses["inline"], f"{execution} went another way than inline"


def test_a_failing_trial_does_not_end_a_tune_experiment(ray_session: str, tmp_path: Path) -> None:
    reference = f"{Path(__file__).parent / 'faulty.py'}:Faulty"
    given = specification(
        tmp_path, "faulty", trainable=reference, execution="tune", budget={"trials": 5}, scheduler="none"
    )
    given = given.with_changes(scheduler=type(given.scheduler)("none", 1, 2, 3))
    running = begin(given, ray_session)
    ended = run_to_end(running)
    failure = running.outcome()["failure"]
    running.release()
    assert ended["reason"] == "finished"
    assert ended["states"]["abandoned"] > 0
    assert ended["states"]["complete"] > 0
    assert "faulty.py" in failure["traceback"]
    assert "no luck" in failure["traceback"]

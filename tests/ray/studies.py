"""Studies that the tests of the Ray rooms run, and the laws that hold after any of them."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import read_journal
from orchestrator.process_graph.launch import RunningStudy, launch
from orchestrator.study import Layout, Phase, read_study, status
from orchestrator.tuning.code import Code

SLOWLY = f"{Path(__file__).parent / 'slowly.py'}:Slowly"
WAIT_SECONDS = 180.0  # for conditions on a busy machine, not for times


def specification(storage: Path, name: str, **changes: Any) -> StudySpecification:
    given = {
        "study": name,
        "trainable": "trainables.testing:Quadratic",
        "space": {"x": {"min": -5.0, "max": 5.0}, "y": {"min": -5.0, "max": 5.0}},
        "objective": {"metric": "loss", "goal": "minimize"},
        "search": "random",
        "scheduler": {"kind": "asha", "min": 1, "max": 9, "eta": 3},
        "budget": {"trials": 12},
        "resources": {"cpu": 1, "concurrent": 2},
        "storage": str(storage),
        "seed": 3,
    }
    return StudySpecification.from_dict(given | changes)


def networks(storage: Path, name: str, serve: dict[str, Any], **changes: Any) -> StudySpecification:
    """Returns a study of networks whose trials last longer than a test, and that feeds an endpoint."""
    return specification(
        storage,
        name,
        trainable="trainables.torch.mlp",
        data={"source": "sklearn:digits"},
        space={"lr": {"min": 1e-4, "max": 1e-2, "log": True}, "width": {"values": [256, 512]}},
        objective={"metric": "val_accuracy", "goal": "maximize"},
        scheduler={"kind": "none", "max": 100},
        budget={"trials": 1000},
        resources={"cpu": 1},
        serve={"name": name, "scale": {"ongoing": 2, "down": "2s"}} | serve,
        **changes,
    )


def begin(given: StudySpecification, address: str) -> RunningStudy:
    return launch(given, Path(given.storage), Code.named(given.trainable), address=address)


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {WAIT_SECONDS:.0f} s for {what}")


def run_to_end(running: RunningStudy) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        runner = running.runner_status()
        assert runner["phase"] != "failed", runner["error"]
        now = running.status()
        return now if now["phase"] == "ended" else None

    try:
        return wait_for(ended, "the study's end")
    except AssertionError as error:
        raise AssertionError(f"{error}: {running.status()}, {running.runner_status()}") from None


def events(given: StudySpecification) -> list[dict[str, Any]]:
    return [event for batch in read_journal(Layout(Path(given.storage), given.study).journal) for event in batch]


def worker_processes() -> list[psutil.Process]:
    found = []
    for process in psutil.Process().children(recursive=True):  # of this session, not of another one on the machine
        with suppress(psutil.Error):  # it ended meanwhile
            if " ".join(process.cmdline()).startswith("ray::ResourceTrainable"):  # Tune's name for what has resources
                found.append(process)
    return found


def check_laws(given: StudySpecification) -> None:
    """Raises unless what must hold after any course of a study holds."""
    everything = events(given)
    suggested = [event["trial"] for event in everything if event["type"] == "suggested"]
    assert suggested == list(range(len(suggested))), "each trial exists exactly once"
    seen: dict[int, int] = {}
    for event in everything:
        if event["type"] == "reported":
            for step, _ in event["reports"]:
                assert step > seen.get(event["trial"], 0), f"trial {event['trial']} reported step {step} twice"
                seen[event["trial"]] = step
    state = read_study(Path(given.storage), given.study).state
    assert state.phase is Phase.ENDED
    assert len(state.trials) == given.budget.trials
    assert not any(state.held.values()), "nothing runs after the end"
    for trial in state.trials:
        if trial.checkpoint is not None:
            assert Path(trial.checkpoint.uri).is_dir(), "checkpoints that are referred to exist"
    for rung in status(state)["rungs"]:
        recorded = sum(any(step == rung["resource"] for step, _ in trial.reports) for trial in state.trials)
        assert rung["trials"] == recorded, "rungs equal what was reported"

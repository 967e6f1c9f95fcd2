"""The state in a study's snapshot: its form, and what the events add up to, are a promise to other versions."""

import json
import math
from pathlib import Path

import pytest

from orchestrator.domain import events as e
from orchestrator.domain.specification import StudySpecification
from orchestrator.domain.trials import CheckpointRef, Decision, Failure
from orchestrator.study import new_study
from orchestrator.study.snapshot import Snapshot, encode

GOLDEN = Path(__file__).parent / "golden" / "study_snapshot.json"
ASKED = {
    "study": "digits",
    "space": {"lr": {"min": 0.0, "max": 1.0}, "optimizer": {"values": ["adam", "sgd"]}},
    "objective": {"metric": "loss"},
    "search": "tpe",
    "scheduler": {"kind": "asha", "min": 1, "max": 9, "eta": 3},
    "budget": {"trials": 9},
    "serve": {"name": "digits"},
}


def ref(trial, step):
    return CheckpointRef(step, f"checkpoints/{trial:05d}/{step:05d}", f"{trial}{step}" * 32, 1024)


def course():
    """Events of every kind that leaves something in the state."""
    yield e.Created(1.0, ASKED, {"lr": 0.5, "optimizer": "adam"}, "cd" * 32, {"numpy": "2"})
    yield e.Opened(2.0, 1, "host.17", "")
    yield e.BaselineMeasured(2.5, 0.9, "ef" * 32)
    for trial, loss in enumerate([0.5, 0.25, math.inf, 0.4]):
        params = {"lr": 0.5 if trial == 0 else loss if math.isfinite(loss) else 1.0, "optimizer": "adam"}
        yield e.Suggested(3.0 + trial, trial, params, "default" if trial == 0 else "search")
        yield e.Started(3.25 + trial, trial, 0, "life1-a", 0)
        if trial == 2:
            yield e.Failed(
                5.5, 2, 0, Failure("error", "ValueError: no", "Traceback …", "ValueError at train.py:7"), True
            )
            continue
        yield e.Reported(3.5 + trial, trial, [(1, {"loss": loss, "grad": math.nan if trial == 3 else 1.0})])
        yield e.Checkpointed(3.5 + trial, trial, ref(trial, 1))
        yield e.Decided(3.5 + trial, trial, 1, Decision.CONTINUE if trial == 0 else Decision.PAUSE)
    yield e.Exporting(8.0, 1, 1, "trial00001-step00001", "challenger", "life1-a")
    yield e.Exported(8.5, "trial00001-step00001", "bundles/trial00001-step00001")
    yield e.Promoted(9.0, "trial00001-step00001", "1")
    yield e.Exporting(9.5, 3, 1, "trial00003-step00001", "challenger", "life1-a")
    wider = {"lr": {"min": 0.0, "max": 2.0}, "optimizer": {"values": ["adam", "sgd"]}}
    yield e.Extended(10.0, 20, None, StudySpecification.from_dict(ASKED | {"space": wider}).space.to_dict())
    yield e.Suggested(11.0, 4, {"lr": 1.5, "optimizer": "sgd"}, "user")


@pytest.fixture
def study():
    study = new_study(StudySpecification.from_dict(ASKED))
    for event in course():
        study.state.apply(event)
    return study


def test_the_form_of_the_state_is_the_golden_one(study):
    assert json.loads(encode(study.state, 27)) == json.loads(GOLDEN.read_text()), "a change needs another FORMAT"


def test_what_an_earlier_version_wrote_is_read(study):
    known = Snapshot.decode(GOLDEN.read_bytes())
    assert known.events == 27
    again = new_study(known.specification(StudySpecification.from_dict(ASKED)))
    known.restore(again.state)
    assert encode(again.state, 27) == encode(study.state, 27)
    assert again.state.specification == study.state.specification
    assert again.state.suggester.suggest(5) == study.state.suggester.suggest(5)
    assert again.state.scheduler.promotable() == study.state.scheduler.promotable()

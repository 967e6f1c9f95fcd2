"""The law checker finds a breach wherever one is made, and none in a sound study."""

import time
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.cli.verifying import examine
from orchestrator.domain.events import (
    Event,
    Exported,
    Finished,
    Opened,
    Promoted,
    Reported,
    Started,
    Suggested,
    from_record,
)
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import read_journal
from orchestrator.study import Layout, StudyKeeper, read_study
from orchestrator.study.laws import violations
from orchestrator.tuning.code import Code
from orchestrator.tuning.inline import run_inline
from orchestrator.tuning.workshop import Workshop


@pytest.fixture
def ended(tmp_path: Path) -> Path:
    """The storage of a study that ran to its end."""
    given = StudySpecification.from_dict(
        {
            "study": "sound",
            "trainable": "trainables.testing:Quadratic",
            "space": {"x": {"min": -5.0, "max": 5.0}, "y": {"min": -5.0, "max": 5.0}},
            "objective": {"metric": "loss"},
            "search": "random",
            "scheduler": {"kind": "asha", "max": 9},
            "budget": {"trials": 12},
        }
    )
    code = Code.named(given.trainable)
    keeper = StudyKeeper.open(given, time.time, storage=tmp_path, defaults={"x": 0.0, "y": 0.0})
    run_inline(keeper, Workshop(given, code, None, tmp_path))
    keeper.close()
    return tmp_path


def events_of(storage: Path) -> list[Event]:
    return [from_record(record) for batch in read_journal(Layout(storage, "sound").journal) for record in batch]


def test_a_sound_study_breaks_no_law(ended: Path) -> None:
    found, checked = examine(ended, "sound")
    assert found == []
    assert checked["trials"] == 12
    assert checked["checkpoints"] > 0


def broken(kind: str, events: list[Event]) -> list[Event]:
    reported = next(i for i, event in enumerate(events) if isinstance(event, Reported))
    started = next(i for i, event in enumerate(events) if isinstance(event, Started))
    match kind:
        case "counts twice":
            return [*events[: reported + 1], events[reported], *events[reported + 1 :]]
        case "runs twice at once":
            return [*events[: started + 1], events[started], *events[started + 1 :]]
        case "exists twice":
            suggested = next(i for i, event in enumerate(events) if isinstance(event, Suggested))
            return [*events[: suggested + 1], events[suggested], *events[suggested + 1 :]]
        case "it was over":
            finished = next(event for event in events if isinstance(event, Finished))
            return [*events, Started(events[-1].at, finished.trial, 0, "w", 0)]
        case "epoch 1":
            return [*events, Opened(events[-1].at, 1, "w", "")]
        case "never exported":
            return [*events, Promoted(events[-1].at, "b", "1")]
        case "best value":
            better = replace(events[reported], reports=[(s, {"loss": -99.0}) for s, _ in events[reported].reports])  # type: ignore[call-arg]
            return [*events[:reported], better, *events[reported + 1 :]]
    raise AssertionError(kind)


@pytest.mark.parametrize(
    "kind",
    ["counts twice", "runs twice at once", "exists twice", "it was over", "epoch 1", "never exported", "best value"],
)
def test_a_breach_is_named(ended: Path, kind: str) -> None:
    events, state = events_of(ended), read_study(ended, "sound").state
    assert violations(state, events) == []
    assert any(kind in line for line in violations(state, broken(kind, events)))


def test_a_changed_and_a_missing_checkpoint_are_found(ended: Path) -> None:
    files = sorted(Layout(ended, "sound").checkpoints.local_path.rglob("state.json"))
    files[0].write_text("{}")
    files[1].unlink()
    files[1].parent.rmdir()
    found = examine(ended, "sound")[0]
    assert any("its hash differs" in line for line in found)
    assert any("is gone" in line for line in found)


def test_what_nothing_refers_to_is_found(ended: Path) -> None:
    (Layout(ended, "sound").checkpoints.local_path / "00003" / ".00001-dead").mkdir(parents=True)
    assert any("referred to by nothing" in line for line in examine(ended, "sound")[0])


def test_exported_bundles_may_be_promoted(ended: Path) -> None:
    events = [*events_of(ended), Exported(1.0, "b", "uri"), Promoted(2.0, "b", "1")]
    assert violations(read_study(ended, "sound").state, events) == []

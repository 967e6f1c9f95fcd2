"""The state in a snapshot: nothing of the fold is forgotten, and whatever cannot be used is passed over."""

import math
from dataclasses import fields

import orjson
import pytest

from orchestrator.domain.errors import InvalidSpecification, StorageError
from orchestrator.domain.exchange import Message, Progress
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import ObjectJournal, Storage, open_journal, read_journal
from orchestrator.journal.segments import read_segments
from orchestrator.study import (
    Layout,
    StudyKeeper,
    new_study,
    read_study,
    rebuild,
    rebuilding,
    replay,
    snapshot,
    snapshot_breaches,
)
from orchestrator.study.bundles import BundleRecord
from orchestrator.study.laws import violations
from orchestrator.study.snapshot import Snapshot, encode

ASKED = StudySpecification.from_dict(
    {
        "study": "s",
        "space": {"x": {"min": 0.0, "max": 1.0}},
        "objective": {"metric": "loss"},
        "search": "random",
        "scheduler": {"kind": "asha", "min": 1, "max": 3, "eta": 3},
        "budget": {"trials": 60},
        "failures": {"alike": 100},
    }
)
DERIVED = {"trials", "counts", "best", "bundles", "champion", "ranking", "held", "created", "spaces", "extended_to"}
OTHERWISE = {"specification", "suggester", "scheduler", "phase", "_ranked", "_open_bundle"}


def drive(keeper, losses=lambda trial, step: trial / 100 + 1 / step):
    """Runs one worker until there is no work for it."""
    progress = ()
    while True:
        answer = keeper.exchange(Message("w", 0, "h", progress, (), 1))
        if answer.release:
            return
        said = [(trial, verdict.until) for trial, verdict in answer.verdicts.items() if verdict.decision == "continue"]
        trial, until = said[0] if said else (answer.runs[0].trial, answer.runs[0].until)
        record = keeper.study.state.trials[trial]
        reports = tuple((s, {"loss": losses(trial, s)}) for s in range(record.last_step + 1, until + 1))
        progress = (Progress(trial, record.attempt, reports),)


def open_keeper(journal, compact_at=40):
    return StudyKeeper.of_journal(journal, ASKED, lambda: 1.0, compact_at=compact_at)


@pytest.fixture
def storage(tmp_path):
    """A storage with a study that was driven to its end."""
    keeper = open_keeper(open_journal(Layout(tmp_path, "s").journal))
    drive(keeper)
    keeper.close()
    return tmp_path


def snapshots(storage):
    return sorted(Layout(storage, "s").journal.local_path.glob("*.snapshot"))


def whole(storage):
    """The study out of all its events."""
    study = new_study(ASKED)
    count = replay(study, read_journal(Layout(storage, "s").journal))
    return encode(study.state, count)


def resumed(storage):
    journal = open_journal(Layout(storage, "s").journal)
    try:
        study, events, saved = rebuild(ASKED, journal)
        return encode(study.state, events), saved
    finally:
        journal.close()


def test_every_field_of_the_state_is_thought_of():
    """A new field of the state, a trial or a bundle belongs into the snapshot, and FORMAT goes up."""
    state = new_study(ASKED).state
    assert set(vars(state)) == DERIVED | OTHERWISE | set(snapshot._PLAIN)
    columns = "params origin created_at state attempt worker reports until observed_step checkpoint best_checkpoint"
    assert (
        *columns.split(),
        *("value", "value_step", "failures", "crashes", "heard_at", "ended_at"),
    ) == snapshot._COLUMNS
    assert {field.name for field in fields(BundleRecord)} == {
        "bundle",
        "trial",
        "checkpoint",
        "value",
        "purpose",
        "worker",
        "state",
        "uri",
        "version",
        "reason",
        "at",
    }


def test_a_keeper_takes_snapshots_of_its_own_accord_and_each_time_later(storage):
    state, saved = resumed(storage)
    assert state == whole(storage)
    events = orjson.loads(state)["events"]
    assert events / 2 <= saved < events, "half as many events again, and another one is due"
    assert len(snapshots(storage)) == 2


def test_a_reader_begins_at_the_snapshot_too(storage, monkeypatch):
    seen = []
    apply = rebuilding.from_record
    monkeypatch.setattr(rebuilding, "from_record", lambda record: seen.append(record) or apply(record))
    state = read_study(storage, "s").state
    assert 0 < len(seen) < orjson.loads(whole(storage))["events"] / 2
    assert len(state.trials) == 60
    assert state.best.number == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda given: given | {"format": 2},
        lambda given: given | {"columns": given["columns"][:-1]},
        lambda given: given | {"scheduler": {}},
        lambda given: given | {"phase": "asleep"},
    ],
    ids=["format", "columns", "scheduler", "phase"],
)
def test_a_snapshot_that_another_version_meant_is_passed_over_and_the_events_are_used(storage, change):
    journal = open_journal(Layout(storage, "s").journal)
    study, events, _ = rebuild(ASKED, journal)
    journal.compact(orjson.dumps(change(orjson.loads(encode(study.state, events)))))
    journal.close()
    assert resumed(storage) == (whole(storage), 0)
    assert len(read_study(storage, "s").state.trials) == 60


def test_a_damaged_snapshot_costs_time_and_nothing_else(storage):
    for path in snapshots(storage):
        path.write_bytes(path.read_bytes()[:-3])
    assert resumed(storage) == (whole(storage), 0)


def test_the_laws_are_checked_against_all_events_whatever_snapshots_there_are(storage):
    events = [
        rebuilding.from_record(record) for batch in read_journal(Layout(storage, "s").journal) for record in batch
    ]
    assert len([event for event in events if type(event).__name__ == "Suggested"]) == 60
    assert violations(read_study(storage, "s").state, events) == []


def test_a_snapshot_that_is_not_what_the_events_say_is_a_breach(storage):
    assert snapshot_breaches(storage, "s") == []
    journal = open_journal(Layout(storage, "s").journal)
    study, events, _ = rebuild(ASKED, journal)
    given = orjson.loads(encode(study.state, events))
    given["trials"][7][6][0][0] += 1
    journal.compact(orjson.dumps(given))
    journal.close()
    (breach,) = snapshot_breaches(storage, "s")
    assert f"not what the {events} events before it add up to" in breach


def test_another_study_under_the_name_is_refused_with_a_snapshot_too(storage):
    other = ASKED.with_changes(seed=7)
    with pytest.raises(InvalidSpecification, match="study 's' exists with another seed"):
        StudyKeeper.open(other, lambda: 1.0, storage=storage)


def test_a_storage_that_takes_no_snapshot_stops_nothing(tmp_path, monkeypatch):
    asked = []

    def refuse(journal, state):
        asked.append(len(state))
        raise StorageError("the disk is full")

    journal = open_journal(Layout(tmp_path, "s").journal)
    monkeypatch.setattr(type(journal), "compact", refuse)
    keeper = open_keeper(journal)
    drive(keeper)
    keeper.close()
    assert 1 < len(asked) < 8, "tried again, and each time later"
    assert resumed(tmp_path) == (whole(tmp_path), 0)


def test_metrics_that_are_not_finite_come_back(tmp_path):
    keeper = open_keeper(open_journal(Layout(tmp_path, "s").journal))
    strange = {5: math.nan, 6: math.inf, 7: -math.inf}
    drive(keeper, lambda trial, step: strange.get(trial, 1 / step))
    for report in ((1, {"loss": 0.5, "grad": math.nan}), (2, {"loss": 0.4, "grad": math.inf})):
        keeper.study.state.trials[9].reports.append(report)
    snapshot_ = Snapshot.decode(encode(keeper.study.state, 1))
    study = new_study(snapshot_.specification(ASKED))
    snapshot_.restore(study.state)
    assert repr(study.state.trials) == repr(keeper.study.state.trials)
    keeper.close()


def test_a_study_in_an_object_store_is_packed_and_goes_on_from_its_snapshot(tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrator.journal.objects.PACKED_AT", 16)
    storage = Storage.of(f"file://{tmp_path}")
    place = storage.child("s").child("journal")
    journal = ObjectJournal(place, spool=tmp_path / "spool", ttl_seconds=1.0)
    keeper = open_keeper(journal)
    drive(keeper)
    keeper.close()
    names = place.names()
    assert sum(name.endswith(".pack") for name in names) > 3
    assert sum(name.endswith(".snapshot") for name in names) == 2
    successor = ObjectJournal(place, spool=tmp_path / "spool", ttl_seconds=1.0)
    study, events, saved = rebuild(ASKED, successor)
    again = new_study(ASKED)
    assert events == replay(again, read_segments(place)) > saved > 0
    assert encode(study.state, events) == encode(again.state, events)
    successor.close()

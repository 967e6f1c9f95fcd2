"""The wire between workers and the study, and the events on the storage: their form is a promise to other versions."""

import inspect
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.domain import events
from orchestrator.domain.errors import ExchangeRefused, JournalTooNew
from orchestrator.domain.events import STORAGE_CLASS, Event, from_record, to_record
from orchestrator.domain.exchange import Answer, Export, ExportResult, Message, Progress, Run, Verdict
from orchestrator.domain.specification import StudySpecification
from orchestrator.domain.trials import CheckpointRef, Decision, Failure
from orchestrator.study import StudyKeeper

GOLDEN = Path(__file__).parent / "golden"

REF = CheckpointRef(3, "/runs/digits/checkpoints/00004/00003", "ab" * 32, 1024)
FAILURE = Failure("error", "ValueError: no", "Traceback (most recent call last): …", "ValueError at train.py:7")
PARAMS = {"lr": 0.01, "layers": 2, "optimizer": "sgd", "nesterov": True, "decay": None}

MESSAGE = Message(
    "life1-a",
    2,
    "host-1",
    (
        Progress(4, 1, ((2, {"loss": 0.5}), (3, {"loss": 0.25, "grad": math.inf})), REF),
        Progress(5, 0, done=True),
        Progress(6, 0, failure=FAILURE),
    ),
    (
        ExportResult("trial00004-step00003", uri="/runs/digits/bundles/trial00004-step00003"),
        ExportResult("b", error="no"),
    ),
    2,
    leaving=True,
    making=("trial00002-step00009",),
    returned=(3,),
)
ANSWER = Answer(
    2,
    {4: Verdict(Decision.CONTINUE, 9), 5: Verdict(Decision.STOP, 27)},
    (Run(7, 1, PARAMS, 99, 3, REF, 3), Run(8, 0, PARAMS, 100, 1)),
    (Export("trial00004-step00003", 4, PARAMS, 98, REF, 0.25),),
    release=False,
    fenced=False,
    wait_seconds=0.05,
    batch=32,
)
EVENTS = {
    "created": events.Created(
        1.5, {"study": "digits", "budget": {"trials": 9, "time": None}}, PARAMS, "cd" * 32, {"a": "1"}
    ),
    "opened": events.Opened(1.5, 2, "host.17", "10.0.0.1:6379"),
    "baseline": events.BaselineMeasured(1.5, 0.1, "ef" * 32),
    "suggested": events.Suggested(1.5, 4, PARAMS, "search"),
    "started": events.Started(1.5, 4, 1, "life1-a", 3),
    "reported": events.Reported(1.5, 4, [(2, {"loss": 0.5}), (3, {"loss": 0.25, "grad": math.inf})]),
    "checkpointed": events.Checkpointed(1.5, 4, REF),
    "decided": events.Decided(1.5, 4, 3, Decision.PAUSE),
    "finished": events.Finished(1.5, 4),
    "failed": events.Failed(1.5, 4, 1, FAILURE, True),
    "interrupted": events.Interrupted(1.5, 4, "its host is gone"),
    "exporting": events.Exporting(1.5, 4, 3, "trial00004-step00003", "challenger", "life1-a"),
    "exported": events.Exported(1.5, "trial00004-step00003", "/runs/digits/bundles/trial00004-step00003"),
    "export_failed": events.ExportFailed(1.5, "trial00004-step00003", "no", False),
    "promoted": events.Promoted(1.5, "trial00004-step00003", "1"),
    "rejected": events.Rejected(1.5, "trial00004-step00003", "no better"),
    "ending": events.Ending(1.5, "finished"),
    "ended": events.Ended(1.5),
    "reopened": events.Reopened(1.5, 20, 60.0),
    "extended": events.Extended(1.5, 40, None, {"lr": {"type": "float", "min": 0.001, "max": 1.0, "default": 0.01}}),
    "rolled_back": events.RolledBack(1.5, "2"),
}


def golden(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def plain(value):
    """What JSON makes of plain data; it has no other numbers than finite ones."""
    return json.loads(json.dumps(value, allow_nan=False))


# --- the wire ------------------------------------------------------------------------------------------------------

words = st.text(max_size=12)
counts = st.integers(0, 2**31)
metrics = st.dictionaries(words, st.floats(allow_nan=False), max_size=3)
configurations = st.dictionaries(words, st.none() | st.booleans() | counts | st.floats(-1e9, 1e9) | words, max_size=4)
references = st.builds(CheckpointRef, counts, words, words, counts)
failures = st.builds(Failure, words, words, words, words)
progresses = st.builds(
    Progress,
    counts,
    counts,
    st.lists(st.tuples(counts, metrics), max_size=3).map(tuple),
    st.none() | references,
    st.booleans(),
    st.none() | failures,
)
messages = st.builds(
    Message,
    words,
    counts,
    words,
    st.lists(progresses, max_size=3).map(tuple),
    st.lists(st.builds(ExportResult, words, words, words), max_size=2).map(tuple),
    counts,
    st.booleans(),
    st.lists(words, max_size=2).map(tuple),
    st.lists(counts, max_size=2).map(tuple),
)
runs = st.builds(Run, counts, counts, configurations, counts, counts, st.none() | references, counts)
exports = st.builds(Export, words, counts, configurations, counts, references, st.none() | st.floats(-1e9, 1e9))
answers = st.builds(
    Answer,
    counts,
    st.dictionaries(counts, st.builds(Verdict, st.sampled_from(Decision), counts), max_size=3),
    st.lists(runs, max_size=3).map(tuple),
    st.lists(exports, max_size=2).map(tuple),
    st.booleans(),
    st.booleans(),
    st.floats(0, 10),
    counts,
)


@given(messages)
def test_a_message_arrives_as_it_was_sent(message):
    assert Message.from_dict(message.to_dict()) == message
    assert Message.from_dict(plain(message.to_dict())) == message


@given(answers)
def test_an_answer_arrives_as_it_was_given(answer):
    assert Answer.from_dict(answer.to_dict()) == answer
    assert Answer.from_dict(plain(answer.to_dict())) == answer


def test_a_metric_that_is_not_a_number_arrives_as_one():
    sent = Message("w", progress=(Progress(0, 0, ((1, {"loss": math.nan}),)),))
    assert math.isnan(Message.from_dict(plain(sent.to_dict())).progress[0].reports[0][1]["loss"])


@pytest.mark.parametrize("value", [MESSAGE, ANSWER], ids=["message", "answer"])
@pytest.mark.parametrize("protocol", [0, 2, "1", None])
def test_another_protocol_is_refused_with_what_to_do(value, protocol):
    with pytest.raises(ExchangeRefused, match="same version of orchestrator on every host"):
        type(value).from_dict(value.to_dict() | {"protocol": protocol})


def test_what_speaks_no_protocol_at_all_is_refused():
    with pytest.raises(ExchangeRefused, match="protocol None"):
        Message.from_dict({})


@pytest.mark.parametrize(("name", "value"), [("message", MESSAGE), ("answer", ANSWER)])
def test_the_form_on_the_wire_is_the_golden_one(name, value):
    assert plain(value.to_dict()) == golden(name), "a change of the form needs another PROTOCOL"
    assert type(value).from_dict(golden(name)) == value


def test_a_keeper_speaks_plain_data_on_both_sides():
    study = {"study": "s", "space": {}, "objective": {"metric": "loss"}, "search": "random"}
    keeper = StudyKeeper.open(StudySpecification.from_dict(study), lambda: 1.0, storage=None)
    answer = Answer.from_dict(plain(keeper.exchange_wire(plain(Message("w", room=1).to_dict()))))
    assert [run.trial for run in answer.runs] == [0]


# --- the journal's events ------------------------------------------------------------------------------------------


def test_every_event_has_a_golden_form():
    kinds = {kind for _, kind in inspect.getmembers(events, inspect.isclass) if issubclass(kind, Event)} - {Event}
    assert {type(event) for event in EVENTS.values()} == kinds
    assert {path.stem.removeprefix("event_") for path in GOLDEN.glob("event_*.json")} == set(EVENTS)


@pytest.mark.parametrize("name", EVENTS)
def test_the_form_on_the_storage_is_the_golden_one(name):
    event = EVENTS[name]
    assert plain(to_record(event)) == golden(f"event_{name}"), "a change of the form needs another FORMAT"
    assert from_record(golden(f"event_{name}")) == event
    assert type(from_record(golden(f"event_{name}"))) is type(event)


def test_only_reports_and_decisions_may_be_lost_with_the_work_behind_them():
    light = {type(event) for event in EVENTS.values()} - STORAGE_CLASS
    assert light == {events.Reported, events.Decided}


@pytest.mark.parametrize(
    "record",
    [
        {"type": "teleported", "at": 1.0},
        {"type": "finished", "at": 1.0, "trial": 3, "mood": "good"},
        golden("event_created") | {"format": 2},
    ],
    ids=["type", "field", "format"],
)
def test_an_event_of_a_later_version_is_refused(record):
    with pytest.raises(JournalTooNew, match="use the version of orchestrator that wrote it"):
        from_record(record)

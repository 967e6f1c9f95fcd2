"""A study on a table: a virtual clock, a journal of JSON lines, and workers that say what a test tells them to."""

import json

import pytest

from orchestrator.domain.events import from_record, to_record
from orchestrator.domain.exchange import Message, Progress
from orchestrator.domain.specification import StudySpecification
from orchestrator.domain.trials import CheckpointRef, Failure, TrialState
from orchestrator.study import new_study, replay, status
from orchestrator.study.laws import violations
from orchestrator.study.snapshot import Snapshot, encode

BASE = {
    "study": "bowl",
    "space": {"x": {"min": 0.0, "max": 1.0}},
    "objective": {"metric": "loss"},
    "search": "random",
    "scheduler": {"kind": "asha", "min": 1, "max": 9, "eta": 3},
    "budget": {"trials": 9},
}


def ref(trial, step):
    return CheckpointRef(step, f"checkpoints/{trial}/{step}", "0" * 64, 1)


class Lab:
    """A real study whose world is a test."""

    def __init__(self, defaults=None, **sections):
        self.specification = StudySpecification.from_dict(BASE | sections)
        self.now = 1000.0
        self.journal = []
        self.epoch = 1
        self.study = new_study(self.specification)
        self.write(self.study.create(self.now, defaults=defaults, code_sha256="", versions={}))
        self.write(self.study.open(self.now, epoch=1, writer="w"))

    @property
    def state(self):
        return self.study.state

    def write(self, events):
        self.journal += [json.dumps(to_record(event), allow_nan=False) for event in events]
        return events

    def events(self, kind=None):
        found = [from_record(json.loads(line)) for line in self.journal]
        return [event for event in found if kind is None or isinstance(event, kind)]

    def restart(self, **sections):
        """The study actor dies, and the next one replays the journal."""
        self.specification = StudySpecification.from_dict(BASE | self.specification.to_dict() | sections)
        self.study = self.replayed()
        self.epoch += 1
        self.write(self.study.open(self.now, epoch=self.epoch, writer="w"))

    def replayed(self):
        study = new_study(self.specification)
        replay(study, [[json.loads(line)] for line in self.journal])
        return study

    def saved(self):
        """Returns the study out of a snapshot."""
        snapshot = Snapshot.decode(encode(self.state, 1))
        study = new_study(snapshot.specification(self.specification))
        snapshot.restore(study.state)
        return study

    def send(self, worker="w", progress=(), exports=(), room=1, host="", leaving=False, making=()):
        message = Message(worker, 0, host, tuple(progress), tuple(exports), room, leaving, making)
        events, answer = self.study.exchange(message, self.now)
        self.write(events)
        return answer

    def ask(self, worker="w", room=1, **options):
        """Returns the trials that the worker is told to run."""
        return [run.trial for run in self.send(worker, room=room, **options).runs]

    def say(self, trial, *losses, worker="w", saves=True, room=0, done=False, failure=None, **more):
        """Reports the losses as the trial's next steps and returns the answer's verdict on it."""
        record = self.state.trials[trial]
        reports = tuple((record.last_step + 1 + i, {"loss": float(loss), **more}) for i, loss in enumerate(losses))
        last = reports[-1][0] if reports else record.last_step
        checkpoint = ref(trial, last) if saves and reports else None
        progress = Progress(trial, record.attempt, reports, checkpoint, done, failure)
        return self.send(worker, [progress], room=room).verdicts[trial].decision

    def fail(self, trial, message="boom", cause="error", signature="ValueError at train.py:3", worker="w"):
        return self.say(trial, failure=Failure(cause, message, "Traceback …", signature), worker=worker)

    def tick(self, seconds=0.0):
        self.now += seconds
        return self.write(self.study.tick(self.now))

    def check(self):
        live, again = self.state, self.replayed().state
        assert violations(live, self.events()) == []
        assert status(live) == status(again)
        assert repr(live.trials) == repr(again.trials), "as text, because a metric may be nan"
        assert encode(self.saved().state, 1) == encode(live, 1)
        assert (live.requeued, live.waiting, live.ranking) == (again.requeued, again.waiting, again.ranking)
        running = {trial.number for trial in live.trials if trial.state is TrialState.RUNNING}
        assert running == {number for numbers in live.held.values() for number in numbers}


@pytest.fixture
def make_lab():
    labs = []

    def make(defaults=None, **sections):
        labs.append(Lab(defaults, **sections))
        return labs[-1]

    yield make
    for lab in labs:
        lab.check()


@pytest.fixture
def lab(make_lab):
    return make_lab()

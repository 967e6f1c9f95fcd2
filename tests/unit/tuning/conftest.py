"""A worker's world without a study: orders by hand, a clock that a test turns, user code that leaves traces."""

from types import SimpleNamespace

import pytest

from orchestrator.domain.exchange import Answer, Message, Verdict
from orchestrator.domain.specification import StudySpecification
from orchestrator.tuning.code import Code
from orchestrator.tuning.worker import Worker
from orchestrator.tuning.workshop import Workshop
from trainables.testing import Quadratic

STUDY = {
    "study": "bowl",
    "space": {"x": {"min": -2.0, "max": 2.0}},
    "objective": {"metric": "loss"},
    "search": "random",
    "scheduler": {"kind": "asha", "min": 1, "max": 9, "eta": 3},
}


class Desk:
    """The study's end of a worker's port: it says what a test tells it to say, and keeps what it heard."""

    def __init__(self):
        self.heard: list[Message] = []
        self.next = Answer(1)

    def __call__(self, message):
        self.heard.append(message)
        answer, self.next = self.next, Answer(1)
        return answer

    def say(self, *runs, verdicts=None, **answer):
        judged = {trial: Verdict(decision, until) for trial, (decision, until) in (verdicts or {}).items()}
        self.next = Answer(1, judged, tuple(runs), **answer)

    @property
    def progress(self):
        return self.heard[-1].progress


@pytest.fixture
def make_workshop(tmp_path):
    def make(target=Quadratic, **changes):
        given = StudySpecification.from_dict(STUDY | changes)
        return Workshop(given, Code.of(target), None, tmp_path)

    return make


@pytest.fixture
def make_worker(make_workshop):
    """A worker, its study's desk, and its clock: `now` in seconds, and `tick` by which each look moves it."""
    made = []

    def make(target=Quadratic, tick=0.0, **changes):
        clock, desk = SimpleNamespace(now=0.0, tick=tick), Desk()

        def pace():
            clock.now += clock.tick
            return clock.now

        worker = Worker("w", desk, make_workshop(target, **changes), host="h", pace=pace)
        made.append(worker)
        return worker, desk, clock

    yield make
    for worker in made:
        worker.drop()

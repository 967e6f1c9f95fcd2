"""Trainables that are stepped."""

import pytest
from worker_orders import order

from orchestrator.tuning.runs import StepRun
from trainables.contract import Context
from trainables.testing import Quadratic

NEVER = lambda: False  # noqa: E731


class Forest(Quadratic):
    """Its one step is the whole fit."""

    resource = "fit"


class Talkative(Quadratic):
    """Says a number where metrics by name are wanted."""

    def step(self):
        return 0.3


def built(kind, params=None):
    trainable = kind()
    trainable.build(params or {"x": 1.0}, None, Context(0))
    return trainable


def test_it_steps_to_the_milestone_and_no_further():
    run = StepRun(built(Quadratic), 0, is_one_step=False)
    stretch = run.advance(3, NEVER)
    assert [step for step, _ in stretch.reports] == [1, 2, 3]
    assert not stretch.done
    assert run.advance(3, NEVER).reports == []


def test_it_stops_after_a_step_when_the_time_is_over():
    assert len(StepRun(built(Quadratic), 0, is_one_step=False).advance(9, lambda: True).reports) == 1


def test_a_whole_fit_is_one_step_and_the_end(make_worker):
    worker, desk, _ = make_worker(Forest, scheduler="none")
    desk.say(order(until=2**31 - 1))
    worker.turn()
    worker.turn()
    [told] = desk.progress
    assert told.done
    assert [step for step, _ in told.reports] == [1]
    assert told.checkpoint.step == 1, "a fitted model may be exported"


def test_metrics_that_are_not_by_name_are_refused():
    with pytest.raises(TypeError, match=r"step returns numbers by the names of their metrics; given 0\.3"):
        StepRun(built(Talkative), 0, is_one_step=False).advance(1, NEVER)

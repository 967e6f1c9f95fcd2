"""What a study does while the endpoint has not decided about its challenger."""

from typing import Any

import pytest

from orchestrator.domain.errors import BundleError, EndpointError
from orchestrator.domain.rollout import RolloutPlan
from orchestrator.process_graph import promoter as module
from orchestrator.process_graph.promoter import PATIENCE_SECONDS, Promoter

CHALLENGER = {"bundle": "trial1", "uri": "file:///b", "trial": 1, "step": 3, "value": 0.9}
PLAN = RolloutPlan("canary", (0.1,))


class Method:
    def __init__(self, act):
        self.remote = act


class Study:
    """Takes what the promoter records, as the study actor does."""

    def __init__(self):
        self.said: list[tuple[Any, ...]] = []
        self.promoted = Method(lambda *given: self.said.append(("promoted", *given)))
        self.rejected = Method(lambda *given: self.said.append(("rejected", *given)))


class Endpoint:
    """Answers as it is told, and counts what it is asked."""

    def __init__(self):
        self.says: Any = {"state": "rollout", "version": 2, "reason": "it is at canary 10%", "asked": 0}
        self.offers = self.looks = 0

    def offer(self, uri, plan, *, who, why):
        assert (uri, plan, who) == ("file:///b", PLAN, "study")
        self.offers += 1
        return self._answer()

    def standing(self, version):
        assert version == 2
        self.looks += 1
        return self._answer()

    def _answer(self):
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class World:
    def __init__(self):
        self.now, self.study, self.endpoint = 0.0, Study(), Endpoint()
        self.promoter = Promoter(self.study, PLAN, lambda: self.now)

    def turn(self, seconds=1.0, **more):
        self.now += seconds
        self.promoter.promote("digits", CHALLENGER, **more)
        return self.study.said


@pytest.fixture
def world(monkeypatch):
    world = World()
    monkeypatch.setattr(module, "endpoint_handle", lambda name: world.endpoint)
    monkeypatch.setattr("ray.get", lambda given: given)
    return world


def test_what_answers_at_once_is_promoted(world):
    world.endpoint.says = {"state": "full", "version": 2}
    assert world.turn() == [("promoted", "trial1", "2")]


def test_a_challenger_in_its_rollout_is_looked_at_and_not_offered_again(world):
    for _ in range(5):
        assert world.turn() == []
    assert (world.endpoint.offers, world.endpoint.looks) == (1, 4)
    world.turn(0.1)
    assert world.endpoint.looks == 4
    assert world.promoter.waits == "version 2 waits: it is at canary 10%"
    world.endpoint.says |= {"state": "full"}
    assert world.turn() == [("promoted", "trial1", "2")]
    assert world.promoter.waits == ""


def test_what_was_withdrawn_is_rejected_with_the_reason(world):
    world.turn()
    world.endpoint.says |= {"state": "withdrawn", "reason": "it failed"}
    assert world.turn() == [("rejected", "trial1", "version 2 was withdrawn: it failed")]


def test_one_that_waits_for_another_is_offered_again(world):
    world.endpoint.says = {"state": "waiting", "version": None, "reason": "version 1 is at shadow"}
    world.turn()
    world.turn()
    assert (world.endpoint.offers, world.endpoint.looks) == (2, 0)


def test_an_endpoint_that_is_away_changes_nothing_and_a_bad_bundle_is_rejected(world):
    world.endpoint.says = EndpointError("away")
    assert world.turn() == []
    world.endpoint.says = BundleError("damaged")
    assert world.turn() == [("rejected", "trial1", "damaged")]


def test_a_study_that_ends_waits_while_the_rollout_moves_and_no_longer(world):
    for asked in range(5):
        world.endpoint.says |= {"asked": asked}
        assert world.turn(PATIENCE_SECONDS - 1, is_ending=True) == []
    assert world.turn(PATIENCE_SECONDS) == []  # a study that runs has time
    ((_, _, reason),) = world.turn(is_ending=True)
    assert "version 2 goes on by itself" in reason

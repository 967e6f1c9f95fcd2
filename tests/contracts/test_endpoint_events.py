"""An endpoint's journal stays readable: each event has a golden form, which today's program writes and reads alike."""

import json
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from deploy.bundle import Lineage
from deploy.rollout.decisions import (
    decide_by_hand,
    decide_challenge,
    decide_freeze,
    decide_place,
    decide_promotion,
    decide_resident,
    decide_rollback,
    decide_verdict,
)
from deploy.rollout.evidence import ArmCounts, Evidence
from deploy.rollout.history import changes
from deploy.rollout.judge import Action, Verdict
from deploy.rollout.state import EVENTS, EndpointState, replay
from deploy.rollout.versions import Contest, Offer, Place, Routing
from orchestrator.domain.errors import EndpointError
from orchestrator.domain.rollout import RolloutPlan

GOLDEN = Path(__file__).parent / "golden"
PLAN = RolloutPlan("canary", (0.0, 0.05), seconds=None, requests=100, disagreement=0.5)
EVIDENCE = Evidence(ArmCounts(900, 1, 2, 3, 4), ArmCounts(100, 5, 6, 7, 8), 50, 9, 1)
FIRST, SECOND = (
    Offer(f"file:///bundles/{digest}", digest, Lineage("digits", trial, 9, {"lr": 0.1}, 0.9, "accuracy", "d", 1))
    for digest, trial in (("a", 12), ("b", 34))
)


def course() -> list[dict]:
    """One of each event, in an order in which they can happen."""
    state, events = EndpointState(), []

    def enter(made):
        nonlocal state
        for event in made:
            events.append(event)
            state = state.apply(event)

    enter(decide_place(state, Place("127.0.0.1", 8000, "/"), at="2026-01-01T00:00:00.000+00:00"))
    enter(decide_promotion(state, FIRST, who="study", why="better", at="2026-01-01T00:00:01.000+00:00"))
    said = {"who": "study", "why": "value 0.9", "at": "2026-01-01T00:00:02.000+00:00"}
    enter(decide_challenge(state, SECOND, PLAN, 0.005, **said))
    enter(decide_verdict(state, Verdict(Action.ADVANCE, "on"), EVIDENCE, at="2026-01-01T00:00:03.000+00:00"))
    enter(decide_verdict(state, Verdict(Action.WITHDRAW, "no"), EVIDENCE, at="2026-01-01T00:00:04.000+00:00"))
    hand = {"who": "somebody", "why": "a holiday", "at": "2026-01-01T00:00:05.000+00:00"}
    enter(decide_freeze(state, frozen=True, **hand))
    enter(decide_freeze(state, frozen=False, **hand))
    enter(decide_by_hand(state, 2, **hand))
    enter(decide_rollback(state, None, **hand))
    enter(decide_resident(state, "churn", lives_here=True, at="2026-01-01T00:00:06.000+00:00"))
    enter(decide_resident(state, "churn", lives_here=False, at="2026-01-01T00:00:07.000+00:00"))
    return events


COURSE = course()
NAMED = {event["type"]: event for event in reversed(COURSE)}


def golden(name):
    return json.loads((GOLDEN / f"endpoint_{name}.json").read_text())


def plain(value):
    return orjson.loads(orjson.dumps(value))


def test_every_event_has_a_golden_form():
    assert set(NAMED) == set(EVENTS) == {path.stem.removeprefix("endpoint_") for path in GOLDEN.glob("endpoint_*")}


@pytest.mark.parametrize("name", EVENTS)
def test_the_form_on_the_storage_is_the_golden_one(name):
    assert plain(NAMED[name]) == golden(name)


def test_the_golden_events_are_read_as_what_was_written():
    state = replay([[golden(event["type"]) if NAMED[event["type"]] is event else event for event in COURSE]])
    assert state == replay([COURSE])
    assert (state.current.number, state.rollout, state.frozen) == (1, None, "")


def test_a_journal_from_before_rollouts_is_read():
    state = replay([[golden("placed"), golden("promoted"), golden("rolled_back")]])
    assert state.routing == Routing(2, 1, "file:///bundles/a")
    assert (state.rollout, dict(state.withdrawn), state.frozen) == (None, {}, "")


def test_evidence_from_before_deaths_were_counted_is_read():
    before = golden("withdrawn")["evidence"]
    del before["deaths"]
    assert Evidence.from_dict(before) == replace(EVIDENCE, deaths=0)


def test_a_place_with_grpc_is_the_golden_form_and_its_port():
    place = Place("127.0.0.1", 8000, "/", 8001)
    (event,) = decide_place(EndpointState(), place, at=golden("placed")["at"])
    assert event == {**golden("placed"), "grpc_port": 8001}
    assert replay([[event]]).place == place
    assert replay([[golden("placed")]]).place == Place("127.0.0.1", 8000, "/", None)


@pytest.mark.parametrize("name", ["promoted", "rolled_back", "frozen", "unfrozen", "withdrawn"])
def test_a_decision_from_outside_is_the_golden_form_and_its_address(name):
    (before,) = list(changes([COURSE[: COURSE.index(NAMED[name]) + 1]]))[-1:]
    course = [*COURSE[: COURSE.index(NAMED[name])], {**golden(name), "origin": "10.0.0.3"}]
    (change,) = list(changes([course]))[-1:]
    assert (before.origin, change.origin) == ("", "10.0.0.3")
    assert replay([course]) == replay([COURSE[: len(course)]])


def test_a_place_with_tls_is_the_golden_form_and_its_files():
    place = Place("127.0.0.1", 8000, "/", None, ("/c.pem", "/k.pem"))
    (event,) = decide_place(EndpointState(), place, at=golden("placed")["at"])
    assert event == {**golden("placed"), "tls": ["/c.pem", "/k.pem"]}
    assert replay([[plain(event)]]).place == place


def test_a_place_in_another_one_s_replicas_is_the_golden_form_and_that_one():
    place = Place("127.0.0.1", 8000, "/churn", shares="digits")
    (event,) = decide_place(EndpointState(), place, at=golden("placed")["at"])
    assert event == {**golden("placed"), "prefix": "/churn", "shares": "digits"}
    assert replay([[plain(event)]]).place == place


@pytest.mark.parametrize("contest", [None, Contest(3, 2, "file:///b", 0.05, 0.005)])
def test_a_routing_travels_as_plain_data(contest):
    routing = Routing(3, 1, "file:///a", contest)
    assert Routing.from_dict(plain(routing.to_dict())) == routing
    assert ("contest" in routing.to_dict()) == (contest is not None)


def test_an_event_of_a_newer_program_is_refused():
    with pytest.raises(EndpointError, match="A newer version of this program wrote it"):
        replay([[{"type": "teleported"}]])

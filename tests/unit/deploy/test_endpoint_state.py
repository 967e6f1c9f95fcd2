import orjson
import pytest

from deploy.bundle import Lineage
from deploy.following import JournalFollower
from deploy.rollout.decisions import (
    decide_by_hand,
    decide_challenge,
    decide_freeze,
    decide_place,
    decide_promotion,
    decide_rollback,
    decide_trial,
    decide_verdict,
    why_not_now,
)
from deploy.rollout.evidence import ArmCounts, Evidence
from deploy.rollout.judge import Action, Verdict
from deploy.rollout.state import EndpointState, replay
from deploy.rollout.versions import Contest, Offer, Place, Routing
from orchestrator.domain.errors import EndpointError, UnknownVersion
from orchestrator.domain.rollout import RolloutPlan, by_hand
from orchestrator.journal import MemoryJournal, open_journal

PLACE = Place("127.0.0.1", 8000, "/")


def offer(digest: str) -> Offer:
    return Offer(f"file:///bundles/{digest}", digest, Lineage("digits", ord(digest), 9))


class Endpoint:
    """The state after decisions that were recorded, as the actor records them."""

    def __init__(self) -> None:
        self.state = EndpointState()
        self.journal = MemoryJournal()

    def promote(self, digest: str) -> int:
        events = decide_promotion(self.state, offer(digest), who="study digits", why="better", at="2026")
        self.journal.append([orjson.loads(orjson.dumps(event)) for event in events])
        for event in events:
            self.state = self.state.apply(event)
        return len(events)

    def roll_back(self, version: int | None = None) -> int:
        events = decide_rollback(self.state, version, who="somebody", why="worse", at="2026")
        self.journal.append([orjson.loads(orjson.dumps(event)) for event in events])
        for event in events:
            self.state = self.state.apply(event)
        return len(events)


@pytest.fixture
def endpoint() -> Endpoint:
    return Endpoint()


def test_before_the_first_promotion_nothing_is_routed(endpoint):
    assert endpoint.state.routing is None


def test_versions_count_from_one(endpoint):
    for number, digest in enumerate("abc", start=1):
        endpoint.promote(digest)
        assert endpoint.state.routing == Routing(number, number, f"file:///bundles/{digest}")


def test_promoting_what_answers_changes_nothing(endpoint):
    assert endpoint.promote("a") == 1
    assert endpoint.promote("a") == 0
    assert endpoint.state.generation == 1


def test_a_bundle_that_answered_before_keeps_its_number_in_a_later_generation(endpoint):
    for digest in "aba":
        endpoint.promote(digest)
    assert endpoint.state.routing == Routing(3, 1, "file:///bundles/a")
    endpoint.promote("c")
    assert endpoint.state.current is not None
    assert endpoint.state.current.number == 3


def test_replay_is_the_live_state(endpoint):
    for digest in "abcab":
        endpoint.promote(digest)
        assert replay(endpoint.journal.read()) == endpoint.state


def test_who_why_and_when_are_kept(endpoint):
    endpoint.promote("a")
    version = replay(endpoint.journal.read()).versions[1]
    assert (version.who, version.why, version.at, version.lineage.trial) == ("study digits", "better", "2026", ord("a"))


def test_place_is_recorded_when_it_changes():
    state = EndpointState()
    (event,) = decide_place(state, PLACE, at="2026")
    state = state.apply(event)
    assert state.place == PLACE
    assert decide_place(state, PLACE, at="2027") == []
    assert len(decide_place(state, Place("127.0.0.1", 8001, "/"), at="2027")) == 1


@pytest.mark.parametrize("place", [PLACE, Place("127.0.0.1", 8000, "/", 8001)])
def test_a_place_is_the_same_after_a_replay(place):
    state = replay([decide_place(EndpointState(), place, at="2026")])
    assert state.place == place


def test_an_event_of_a_newer_program_is_refused():
    with pytest.raises(EndpointError, match="event 'shadowed'; known are promoted, rolled_back, challenged, advanced"):
        replay([[{"type": "shadowed"}]])


def test_a_follower_sees_each_promotion_without_a_claim(tmp_path, endpoint):
    follower = JournalFollower(tmp_path / "journal")
    assert follower.routing() is None
    journal = open_journal(tmp_path / "journal")
    for digest in "aab":
        journal.append(decide_promotion(endpoint.state, offer(digest), who="", why="", at=""))
        endpoint.promote(digest)
        assert follower.routing() == endpoint.state.routing
    journal.close()
    open_journal(tmp_path / "journal").close()  # a new epoch says nothing new
    assert follower.routing() == endpoint.state.routing


def test_a_rollback_goes_to_the_version_before(endpoint):
    for digest in "abc":
        endpoint.promote(digest)
    endpoint.roll_back()
    assert endpoint.state.routing == Routing(4, 2, "file:///bundles/b")
    assert endpoint.state.versions[2].why == "worse"
    assert replay(endpoint.journal.read()) == endpoint.state


def test_a_rollback_goes_to_any_earlier_version_and_back(endpoint):
    for digest in "abc":
        endpoint.promote(digest)
    assert endpoint.roll_back(1) == 1
    assert endpoint.roll_back(1) == 0
    endpoint.roll_back()
    assert endpoint.state.current is not None
    assert endpoint.state.current.number == 3


@pytest.mark.parametrize("version", [None, 7])
def test_a_rollback_to_nothing_names_the_versions(endpoint, version):
    endpoint.promote("a")
    with pytest.raises(EndpointError, match="versions: 1"):
        endpoint.roll_back(version)


# --- rollouts ------------------------------------------------------------------------------------------------------

PLAN = RolloutPlan("canary", (0.0, 0.1, 0.5))
SAID = {"who": "study digits", "why": "better", "at": "2026-01-01T00:00:00+00:00"}
EVIDENCE = Evidence(challenger=ArmCounts(asked=40))


class Course:
    """A state that takes decisions one after the other."""

    def __init__(self) -> None:
        self.state = EndpointState()

    def take(self, events) -> list[str]:
        for event in events:
            self.state = self.state.apply(orjson.loads(orjson.dumps(event)))
        return [event["type"] for event in events]

    def offer(self, digest: str) -> list[str]:
        return self.take(decide_challenge(self.state, offer(digest), PLAN, 0.01, **SAID))

    def judge(self, action: Action) -> list[str]:
        return self.take(decide_verdict(self.state, Verdict(action, "so"), EVIDENCE, at=SAID["at"]))


@pytest.fixture
def course() -> Course:
    course = Course()
    assert course.offer("a") == ["promoted"]  # there is nothing yet that it could be compared with
    return course


def test_a_challenger_goes_through_its_steps_and_becomes_the_champion(course):
    assert course.offer("b") == ["challenged"]
    assert (course.state.current.number, course.state.rollout.stage) == (1, "shadow")
    assert course.state.routing.contest == Contest(2, 2, "file:///bundles/b", 0.0, 0.01)
    assert course.judge(Action.STAY) == []
    for weight in (0.1, 0.5):
        assert course.judge(Action.ADVANCE) == ["advanced"]
        assert course.state.routing.contest.weight == weight
        assert course.state.rollout.asked == 40
    assert course.judge(Action.FINISH) == ["promoted"]
    assert course.state.routing == Routing(5, 2, "file:///bundles/b")


def test_a_plan_without_steps_promotes_at_once(course):
    assert course.take(decide_challenge(course.state, offer("b"), RolloutPlan(), 0.01, **SAID)) == ["promoted"]


def test_one_challenger_at_a_time_and_the_next_one_waits(course):
    course.offer("b")
    assert why_not_now(course.state, offer("b")) == ("rollout", "it is at shadow")
    assert why_not_now(course.state, offer("c")) == ("waiting", "version 2 is at shadow")
    course.judge(Action.FINISH)
    assert why_not_now(course.state, offer("c")) is None
    assert why_not_now(course.state, offer("b")) is None


def test_what_was_withdrawn_is_not_tried_again_by_itself(course):
    course.offer("b")
    assert course.judge(Action.WITHDRAW) == ["withdrawn"]
    assert course.state.routing == Routing(3, 1, "file:///bundles/a")
    assert why_not_now(course.state, offer("b")) == ("withdrawn", "so")
    assert course.take(decide_by_hand(course.state, 2, **SAID)) == ["promoted"]
    assert dict(course.state.withdrawn) == {}


def test_a_frozen_endpoint_changes_by_hand_only(course):
    course.offer("b")
    assert course.take(decide_freeze(course.state, frozen=True, **SAID)) == ["frozen"]
    assert decide_freeze(course.state, frozen=True, **SAID) == []
    assert all(course.judge(action) == [] for action in Action)
    assert course.take(decide_by_hand(course.state, 2, **SAID)) == ["promoted"]
    assert why_not_now(course.state, offer("c"))[0] == "waiting"
    course.take(decide_freeze(course.state, frozen=False, **SAID))
    assert why_not_now(course.state, offer("c")) is None


def test_a_version_is_tried_by_hand_whatever_became_of_it(course):
    course.offer("b")
    course.judge(Action.WITHDRAW)
    course.offer("c")
    plan = by_hand(0.1)
    tried = decide_trial(course.state, 2, plan, 0.005, **SAID)
    assert course.take(tried) == ["withdrawn", "challenged"]
    assert course.state.withdrawn[3] == "version 2 was tried in its place"
    assert (course.state.routing.version, course.state.routing.contest.version) == (1, 2)
    assert (course.state.rollout.weight, course.state.rollout.plan) == (0.1, plan)
    again = decide_trial(course.state, 2, by_hand(0.0), 0.005, **SAID)
    assert course.take(again) == ["challenged"]
    assert (course.state.rollout.weight, course.state.rollout.plan.kind) == (0.0, "shadow")
    with pytest.raises(EndpointError, match="answers all requests already"):
        decide_trial(course.state, 1, plan, 0.005, **SAID)
    with pytest.raises(UnknownVersion, match="There is no version 9"):
        decide_trial(course.state, 9, plan, 0.005, **SAID)


def test_whoever_promotes_another_version_takes_the_challenger_out_first(course):
    course.offer("b")
    assert course.take(decide_promotion(course.state, offer("c"), **SAID)) == ["withdrawn", "promoted"]
    assert dict(course.state.withdrawn) == {2: "version 3 was promoted over it"}
    course.offer("d")
    assert course.take(decide_by_hand(course.state, 3, **SAID)) == ["withdrawn"]
    assert course.state.routing.contest is None


def test_a_rollback_in_a_rollout_takes_the_challenger_out_and_goes_no_further(course):
    course.take(decide_promotion(course.state, offer("b"), **SAID))
    course.offer("c")
    assert course.take(decide_rollback(course.state, None, **SAID)) == ["withdrawn"]
    assert course.state.current.number == 2
    assert course.take(decide_rollback(course.state, None, **SAID)) == ["rolled_back"]
    course.offer("d")
    assert course.take(decide_rollback(course.state, 2, **SAID)) == ["withdrawn", "rolled_back"]


def test_an_unknown_version_cannot_be_promoted(course):
    with pytest.raises(EndpointError, match="There is no version 7; versions: 1"):
        decide_by_hand(course.state, 7, **SAID)

import orjson
import pytest

from deploy.bundle import Lineage
from deploy.endpoint import (
    EndpointState,
    Offer,
    Place,
    Routing,
    decide_place,
    decide_promotion,
    decide_rollback,
    replay,
)
from deploy.following import JournalFollower
from orchestrator.domain.errors import EndpointError
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


def test_an_event_of_a_newer_program_is_refused():
    with pytest.raises(EndpointError, match="event 'shadowed'; known are promoted, rolled_back, placed"):
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

"""One endpoint in a replica: it follows its journal, and changes its model in place."""

import time

import pytest

from deploy.access.tokens import ensure_token
from deploy.bundle import Bundle
from deploy.places import journal_directory
from deploy.resident import Means, Resident
from deploy.rollout.decisions import decide_promotion
from deploy.rollout.state import EndpointState
from deploy.rollout.versions import Contest, Offer, Routing
from orchestrator.domain.errors import BundleError
from orchestrator.journal import open_journal


def wait_until(holds, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


@pytest.fixture
def journal(tmp_path):
    journal = open_journal(journal_directory(tmp_path, "digits"))
    yield journal
    journal.close()


@pytest.fixture
def resident(tmp_path):
    ensure_token(tmp_path, "digits")
    resident = Resident("digits", str(tmp_path), Means())
    yield resident
    resident.end(wait=True)


def promote(journal, directory):
    bundle = Bundle.open(directory)
    journal.append(
        decide_promotion(EndpointState(), Offer(bundle.uri, bundle.digest, bundle.lineage), who="", why="", at="")
    )


def test_a_replica_without_a_promotion_is_healthy_and_serves_nothing(resident):
    resident.check()
    assert resident.report()["version"] is None


def test_a_late_replica_serves_what_the_journal_says(tmp_path, journal, make_bundle):
    ensure_token(tmp_path, "digits")
    promote(journal, make_bundle())
    resident = Resident("digits", str(tmp_path), Means())
    assert resident.report()["version"] == 1
    resident.end(wait=True)


def test_a_replica_that_missed_the_message_follows_the_journal(resident, journal, make_bundle):
    promote(journal, make_bundle())
    wait_until(lambda: resident.report()["version"] == 1)
    resident.check()


def test_it_serves_the_version_it_is_told_and_ignores_an_older_decision(resident, make_bundle):
    uri = str(make_bundle())
    for routing in (Routing(5, 3, uri), Routing(4, 2, uri)):
        resident.adopt(routing)
        assert resident.report()["version"] == 3


def test_a_bundle_that_cannot_be_served_leaves_the_one_before(resident, make_bundle):
    resident.adopt(Routing(1, 1, str(make_bundle("1"))))
    damaged = make_bundle("2")
    (damaged / "model.onnx").write_bytes(b"x")
    with pytest.raises(BundleError):
        resident.adopt(Routing(2, 2, str(damaged)))
    assert resident.report()["version"] == 1
    resident.check()


def test_what_keeps_a_replica_from_following_is_in_its_report(resident, journal, make_bundle):
    directory = make_bundle()
    promote(journal, directory)
    wait_until(lambda: resident.report()["version"] == 1)
    damaged = make_bundle("2", scores=(0.5, 0.5))
    journal.append([{"type": "placed", "host": "x", "port": 1, "prefix": "/", "at": ""}])
    promote(journal, damaged)
    wait_until(lambda: resident.report()["generation"] == 2)
    assert resident.report()["fault"] == ""


# --- champion and challenger ------------------------------------------------------------------------------------------


def test_a_challenger_is_loaded_beside_the_champion_and_becomes_it_without_being_loaded_again(resident, make_bundle):
    one, two = (Bundle.open(make_bundle(name, trial=trial)).uri for name, trial in (("1", 12), ("2", 34)))
    resident.adopt(Routing(1, 1, one))
    champion = resident._slot.served.bundle
    resident.adopt(Routing(2, 1, one, Contest(2, 2, two, 0.0, 0.01)))
    assert (resident.report()["contender"], resident.report()["weight"]) == (2, 0.0)
    contender = resident._slot.served.contender
    contender.tally.challenger(0.1)
    resident.adopt(Routing(3, 1, one, Contest(2, 2, two, 0.5, 0.01)))
    served = resident._slot.served
    assert served.bundle is champion
    assert served.contender.served.bundle is contender.served.bundle
    assert (served.contender.weight, served.contender.tally.evidence.challenger.asked) == (0.5, 1)
    resident.adopt(Routing(4, 2, two))
    assert resident._slot.served.bundle is contender.served.bundle
    assert resident.report()["contender"] is None


def test_the_next_rollout_begins_to_count_at_nothing(resident, make_bundle):
    one, two = str(make_bundle("1")), str(make_bundle("2"))
    resident.adopt(Routing(2, 1, one, Contest(2, 2, two, 0.5, 0.01)))
    resident._slot.served.contender.tally.challenger(0.1)
    resident.adopt(Routing(5, 1, one, Contest(5, 2, two, 0.5, 0.01)))
    assert resident._slot.served.contender.tally.evidence.challenger.asked == 0


def test_a_challenger_that_cannot_be_loaded_leaves_everything_as_it_was(resident, make_bundle, tmp_path):
    one = str(make_bundle("1"))
    resident.adopt(Routing(1, 1, one))
    with pytest.raises(BundleError):
        resident.adopt(Routing(2, 1, one, Contest(2, 2, str(tmp_path / "none"), 0.5, 0.01)))
    assert (resident.report()["version"], resident.report()["generation"]) == (1, 1)

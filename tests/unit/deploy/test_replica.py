import asyncio
import time

import pytest

from deploy.bundle import Bundle
from deploy.decisions import decide_promotion
from deploy.endpoint import EndpointState
from deploy.places import journal_directory
from deploy.replica import EndpointReplica
from deploy.tokens import ensure_token
from deploy.versions import Offer, Routing
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
def replica(tmp_path):
    ensure_token(tmp_path, "digits")
    return EndpointReplica("digits", str(tmp_path))


def promote(journal, directory):
    bundle = Bundle.open(directory)
    journal.append(
        decide_promotion(EndpointState(), Offer(bundle.uri, bundle.digest, bundle.lineage), who="", why="", at="")
    )


def test_a_replica_without_a_promotion_is_healthy_and_serves_nothing(replica):
    replica.check_health()
    assert replica.report()["version"] is None


def test_a_late_replica_serves_what_the_journal_says(tmp_path, journal, make_bundle):
    ensure_token(tmp_path, "digits")
    promote(journal, make_bundle())
    assert EndpointReplica("digits", str(tmp_path)).report()["version"] == 1


def test_a_replica_that_missed_the_message_follows_the_journal(replica, journal, make_bundle):
    promote(journal, make_bundle())
    wait_until(lambda: replica.report()["version"] == 1)
    replica.check_health()


def test_swap_serves_the_version_and_ignores_an_older_decision(replica, make_bundle):
    uri = str(make_bundle())
    assert asyncio.run(replica.swap(Routing(5, 3, uri).to_dict()))["version"] == 3
    assert asyncio.run(replica.swap(Routing(4, 2, uri).to_dict()))["version"] == 3


def test_a_bundle_that_cannot_be_served_leaves_the_one_before(replica, make_bundle):
    asyncio.run(replica.swap(Routing(1, 1, str(make_bundle("1"))).to_dict()))
    damaged = make_bundle("2")
    (damaged / "model.onnx").write_bytes(b"x")
    with pytest.raises(BundleError):
        asyncio.run(replica.swap(Routing(2, 2, str(damaged)).to_dict()))
    assert replica.report()["version"] == 1
    replica.check_health()


def test_what_keeps_a_replica_from_following_is_in_its_report(replica, journal, make_bundle):
    directory = make_bundle()
    promote(journal, directory)
    wait_until(lambda: replica.report()["version"] == 1)
    damaged = make_bundle("2", scores=(0.5, 0.5))
    journal.append([{"type": "placed", "host": "x", "port": 1, "prefix": "/", "at": ""}])
    promote(journal, damaged)
    wait_until(lambda: replica.report()["generation"] == 2)
    assert replica.report()["fault"] == ""

import asyncio
import time

import pytest

from deploy.access.tokens import ensure_token
from deploy.answering.feedback import Waiting
from deploy.answering.served import Contender, ModelSlot, Served
from deploy.answering.tally import Tally
from deploy.bundle import Bundle
from deploy.monitoring.traffic import Traffic
from deploy.places import journal_directory
from deploy.replica import EndpointReplica
from deploy.reporting import Reporter
from deploy.rollout.decisions import decide_promotion
from deploy.rollout.evidence import Evidence, Judgement
from deploy.rollout.evidence_file import EvidenceFile
from deploy.rollout.state import EndpointState
from deploy.rollout.versions import Contest, Offer, Routing
from orchestrator.domain.errors import BundleError, EndpointError
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


# --- two models ----------------------------------------------------------------------------------------------------


def test_a_challenger_is_loaded_beside_the_champion_and_becomes_it_without_being_loaded_again(replica, make_bundle):
    one, two = (Bundle.open(make_bundle(name, trial=trial)).uri for name, trial in (("1", 12), ("2", 34)))
    asyncio.run(replica.swap(Routing(1, 1, one).to_dict()))
    champion = replica._slot.served.bundle
    asyncio.run(replica.swap(Routing(2, 1, one, Contest(2, 2, two, 0.0, 0.01)).to_dict()))
    assert (replica.report()["contender"], replica.report()["weight"]) == (2, 0.0)
    contender = replica._slot.served.contender
    contender.tally.challenger(0.1)
    asyncio.run(replica.swap(Routing(3, 1, one, Contest(2, 2, two, 0.5, 0.01)).to_dict()))
    served = replica._slot.served
    assert served.bundle is champion
    assert served.contender.served.bundle is contender.served.bundle
    assert (served.contender.weight, served.contender.tally.evidence.challenger.asked) == (0.5, 1)
    asyncio.run(replica.swap(Routing(4, 2, two).to_dict()))
    assert replica._slot.served.bundle is contender.served.bundle
    assert replica.report()["contender"] is None


def test_the_next_rollout_begins_to_count_at_nothing(replica, make_bundle):
    one, two = str(make_bundle("1")), str(make_bundle("2"))
    asyncio.run(replica.swap(Routing(2, 1, one, Contest(2, 2, two, 0.5, 0.01)).to_dict()))
    replica._slot.served.contender.tally.challenger(0.1)
    asyncio.run(replica.swap(Routing(5, 1, one, Contest(5, 2, two, 0.5, 0.01)).to_dict()))
    assert replica._slot.served.contender.tally.evidence.challenger.asked == 0


def test_a_challenger_that_cannot_be_loaded_leaves_everything_as_it_was(replica, make_bundle, tmp_path):
    one = str(make_bundle("1"))
    asyncio.run(replica.swap(Routing(1, 1, one).to_dict()))
    with pytest.raises(BundleError):
        asyncio.run(replica.swap(Routing(2, 1, one, Contest(2, 2, str(tmp_path / "none"), 0.5, 0.01)).to_dict()))
    assert (replica.report()["version"], replica.report()["generation"]) == (1, 1)


# --- what it says to the endpoint actor ----------------------------------------------------------------------------

LABEL = Judgement("x", 1, 0, 1, 1)


REPORTED = "an endpoint of these tests alone"


class Listener:
    """Takes the place of the endpoint actor's handle, and may be away."""

    def __init__(self):
        self.heard, self.is_away = [], False

    def observe(self, *said):
        if self.is_away:
            raise EndpointError("away")
        self.heard.append(said)


@pytest.fixture
def listener(monkeypatch):
    listener = Listener()
    monkeypatch.setattr("deploy.reporting.find_handle", {REPORTED: listener}.get)  # other tests' replicas go on
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    return listener


def test_nothing_is_said_where_there_is_nothing_to_say(listener, tmp_path):
    Reporter(REPORTED, ModelSlot(), Waiting(), Traffic(), tmp_path).report()
    assert listener.heard == []


def test_labels_wait_until_the_endpoint_actor_is_back(listener, tmp_path):
    feedback = Waiting()
    reporter = Reporter(REPORTED, ModelSlot(), feedback, Traffic(), tmp_path)
    feedback.add([LABEL])
    listener.is_away = True
    reporter.report()
    listener.is_away = False
    reporter.report()
    ((_, rollout, evidence, labels, deaths),) = listener.heard
    assert (rollout, evidence, labels, deaths) == (0, None, [["x", 1, 0, 1, 1]], [])
    reporter.report()
    assert len(listener.heard) == 1


def test_each_report_holds_all_that_was_counted(listener, bundle, tmp_path):
    tally, slot = Tally(1.0), ModelSlot()
    slot.put(Served(bundle, 1, 5, Contender(Served(bundle, 2, 5), 5, 0.5, tally)))
    reporter = Reporter(REPORTED, slot, Waiting(), Traffic(), tmp_path)
    for _ in range(2):
        tally.challenger(0.1)
        reporter.report()
    assert [(rollout, evidence["challenger"]["asked"]) for _, rollout, evidence, *_ in listener.heard] == [
        (5, 1),
        (5, 2),
    ]
    assert len({replica for replica, *_ in listener.heard}) == 1


def test_a_death_is_told_until_the_endpoint_actor_has_heard_of_it(listener, tmp_path, die_computing):
    die_computing(tmp_path, rollout=7)
    reporter = Reporter(REPORTED, ModelSlot(), Waiting(), Traffic(), tmp_path)
    listener.is_away = True
    reporter.report()
    listener.is_away = False
    reporter.report()
    reporter.report()
    ((_, _, _, _, [[box, rollout]]),) = listener.heard
    assert (box.partition("-")[0].isdigit(), rollout) == (True, 7)


# --- the book on the storage ---------------------------------------------------------------------------------------


def test_the_evidence_is_there_after_a_death(tmp_path):
    file = EvidenceFile(str(tmp_path), "digits")
    file.book.begin(5)
    file.book.take("a", 5, Evidence(compared=3))
    file.save(at_once=True)
    again = EvidenceFile(str(tmp_path), "digits").book
    assert (again.rollout, again.of(5).compared) == (5, 3)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"rollout": "x"}'])
def test_evidence_that_cannot_be_read_is_begun_anew(tmp_path, content):
    place = tmp_path / "endpoints" / "digits"
    place.mkdir(parents=True)
    (place / "evidence.json").write_bytes(content)
    assert EvidenceFile(str(tmp_path), "digits").book.of(0) == Evidence()

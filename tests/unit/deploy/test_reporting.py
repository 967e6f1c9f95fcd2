"""What a replica says to the endpoint actor, and the book in which that is kept."""

import pytest

from deploy.answering.feedback import Waiting
from deploy.answering.served import Contender, ModelSlot, Served
from deploy.answering.tally import Tally
from deploy.monitoring.traffic import Traffic
from deploy.reporting import Reporter
from deploy.rollout.evidence import Evidence, Judgement
from deploy.rollout.evidence_file import EvidenceFile
from orchestrator.domain.errors import EndpointError

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

"""A replica, and the endpoints in it: who comes, who goes, and what befalls one of them."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.access.tokens import ensure_token, token_file
from deploy.bundle import Bundle
from deploy.monitoring.metrics import Reading
from deploy.places import journal_directory
from deploy.replica import EndpointReplica
from deploy.rollout.decisions import decide_promotion, decide_resident
from deploy.rollout.state import EndpointState
from deploy.rollout.versions import Offer, Routing
from deploy.scaling import RATE
from orchestrator.domain.errors import BundleError, EndpointError
from orchestrator.journal import Journal, open_journal

Replica = Any  # Serve's class of it is made of ours at run time


def wait_until(holds: Callable[[], Any], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


class Journals:
    """The journals of endpoints on one storage, and the states that follow from them."""

    def __init__(self, storage: Path) -> None:
        self._storage = storage
        self._open: dict[str, tuple[Journal, EndpointState]] = {}

    def add(self, name: str, decide: Callable[[EndpointState], Any]) -> None:
        if name not in self._open:
            self._open[name] = open_journal(journal_directory(self._storage, name)), EndpointState()
        journal, state = self._open[name]
        events = decide(state)
        journal.append(events)
        for event in events:
            state = state.apply(event)
        self._open[name] = journal, state

    def promote(self, name: str, directory: Path) -> None:
        bundle = Bundle.open(directory)
        offer = Offer(bundle.uri, bundle.digest, bundle.lineage)
        self.add(name, lambda state: decide_promotion(state, offer, who="", why="", at=""))

    def house(self, name: str, resident: str, lives_here: bool) -> None:
        self.add(name, lambda state: decide_resident(state, resident, lives_here=lives_here, at=""))

    def close(self) -> None:
        for journal, _ in self._open.values():
            journal.close()


@pytest.fixture
def journals(tmp_path: Path, make_bundle: Callable[..., Path]) -> Iterator[Journals]:
    """Three endpoints, of which each has a model."""
    journals = Journals(tmp_path)
    for number, name in enumerate(("digits", "plans", "birds")):
        ensure_token(tmp_path, name)
        journals.promote(name, make_bundle(name, trial=number))
    yield journals
    journals.close()


@pytest.fixture
def start(tmp_path: Path, journals: Journals) -> Iterator[Callable[[], Replica]]:
    """Starts replicas, whose threads end with the test: they would go on reading files in those that follow."""
    started: list[Replica] = []

    def make() -> Replica:
        started.append(EndpointReplica("digits", str(tmp_path)))
        return started[-1]

    yield make
    for replica in started:
        for resident in (replica._own, *replica._residents.values()):
            resident.end(wait=True)


@pytest.fixture
def replica(start: Callable[[], Replica]) -> Replica:
    return start()


def names(replica: Replica) -> set[str]:
    return set(replica.__serve_build_asgi_app__().apps)


def test_a_late_replica_has_all_that_live_here_before_it_answers(
    start: Callable[[], Replica], journals: Journals
) -> None:
    journals.house("digits", "plans", True)
    journals.house("digits", "birds", True)
    replica = start()
    assert names(replica) == {"digits", "plans", "birds"}
    assert [replica.report(name)["version"] for name in ("digits", "plans", "birds")] == [1, 1, 1]
    replica.check_health()


def test_others_come_and_go_by_the_journal_alone(replica: Replica, journals: Journals) -> None:
    journals.house("digits", "plans", True)
    wait_until(lambda: names(replica) == {"digits", "plans"})
    journals.house("digits", "plans", False)
    wait_until(lambda: names(replica) == {"digits"})
    with pytest.raises(EndpointError, match="'plans' is not in this replica of 'digits'"):
        replica.report("plans")


def test_who_is_told_has_them_at_once_and_an_older_word_changes_nothing(replica: Replica, journals: Journals) -> None:
    journals.house("digits", "plans", True)
    asyncio.run(replica.settle("digits", 1, ["plans"]))
    assert names(replica) == {"digits", "plans"}
    assert asyncio.run(replica.settle("digits", 0, []))["version"] == 1
    assert names(replica) == {"digits", "plans"}


def test_one_is_swapped_and_the_other_stays(
    replica: Replica, journals: Journals, make_bundle: Callable[..., Path]
) -> None:
    asyncio.run(replica.settle("digits", 1, ["plans"]))
    journals.house("digits", "plans", True)
    second = str(make_bundle("second", scores=(0.5, 0.5)))
    assert asyncio.run(replica.swap("plans", Routing(2, 2, second).to_dict()))["version"] == 2
    assert replica.report("digits")["version"] == 1
    assert Reading.from_dict(replica.reading("plans")).standing.version == 2
    with pytest.raises(BundleError):
        asyncio.run(replica.swap("digits", Routing(2, 2, f"{second}-none").to_dict()))
    assert [replica.report(name)["version"] for name in ("digits", "plans")] == [1, 2]


def test_one_that_cannot_come_in_troubles_no_other_and_comes_when_it_can(
    tmp_path: Path, replica: Replica, journals: Journals
) -> None:
    token = token_file(tmp_path, "plans")
    token.rename(token.with_name("away"))
    asyncio.run(replica.settle("digits", 2, ["plans", "birds"]))
    assert names(replica) == {"digits", "birds"}
    token.with_name("away").rename(token)
    wait_until(lambda: names(replica) == {"digits", "plans", "birds"})


def test_a_damaged_bundle_of_one_is_in_its_report_alone(
    replica: Replica, journals: Journals, make_bundle: Callable[..., Path]
) -> None:
    asyncio.run(replica.settle("digits", 1, ["plans"]))
    journals.house("digits", "plans", True)
    damaged = make_bundle("damaged", scores=(0.1, 0.9))
    journals.promote("plans", damaged)
    wait_until(lambda: replica.report("plans")["version"] == 2)
    worse = make_bundle("worse", scores=(0.2, 0.8))
    offer = Bundle.open(worse)
    (worse / "model.onnx").write_bytes(b"x")
    journals.add(
        "plans",
        lambda state: decide_promotion(state, Offer(offer.uri, offer.digest, offer.lineage), who="", why="", at=""),
    )
    wait_until(lambda: replica.report("plans")["fault"])
    assert (replica.report("plans")["version"], replica.report("digits")["fault"]) == (2, "")
    replica.check_health()


def test_the_load_that_scales_is_that_of_all(replica: Replica, journals: Journals) -> None:
    asyncio.run(replica.settle("digits", 1, ["plans"]))
    journals.house("digits", "plans", True)
    asyncio.run(replica.record_autoscaling_stats())
    for app in replica.__serve_build_asgi_app__().apps.values():
        app.counts.answered += 50
    time.sleep(0.02)
    assert 0 < asyncio.run(replica.record_autoscaling_stats())[RATE] <= 100 / 0.02


def test_who_leaves_ends_its_threads(replica: Replica, journals: Journals) -> None:
    asyncio.run(replica.settle("digits", 1, ["plans"]))
    threads = replica._residents["plans"]._threads
    assert all(thread.is_alive() for thread in threads)
    asyncio.run(replica.settle("digits", 2, []))
    wait_until(lambda: not any(thread.is_alive() for thread in threads))

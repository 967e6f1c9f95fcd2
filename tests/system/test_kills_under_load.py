"""Each kind of process that serves, killed with -9 under load: which requests fail, each sent once, and for how long.

Prints a table. `KILLS_SEED=… KILLS=… pytest -s tests/system/test_kills_under_load.py` takes another order, and kills
each so often.
"""

import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from under_load import Load, Shop, wait_until

from deploy import (
    Client,
    EndpointAddress,
    EndpointHandle,
    Scale,
    endpoint_handle,
    start_endpoint,
    stop_endpoint,
    stop_serve,
)
from orchestrator.domain.errors import EndpointError
from orchestrator.domain.rollout import RolloutPlan

sys.path.insert(0, str(Path(__file__).parent))

from soak import found_processes

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(600)]

SEED = int(os.environ.get("KILLS_SEED", "2"))
CLIENTS = 4
PAUSE_SECONDS = 0.005
RECOVERY_SECONDS = 60.0
CALM_SECONDS = 1.0  # without a failure, before the next kill
REPLICAS = 2
# Who is not on a request's way costs none. A replica takes those with it that are at it or on their way there: with
# each client's one at a time, a few; no more than these, of hundreds.
MOST_FAILED = {"replica": 10 * CLIENTS, "endpoint actor": 0, "controller": 0}
NEEDED = {"replica", "endpoint actor", "controller"}
# Serve's own proxy, or HAProxy, whose manager takes it along: without them nobody can be asked
WAYS_IN = {"proxy", "HAProxy", "HAProxy's manager"}
TIMES = int(os.environ.get("KILLS", "1"))


@dataclass(frozen=True)
class Kill:
    """What one death cost: failed requests; seconds to the next good answer, the last failure and a successor."""

    victim: str
    failed: Counter[str]
    answered: int
    next_answer: float
    last_failure: float
    whole: float

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {what}" for what, count in sorted(self.failed.items())) or "none"
        return (
            f"{self.victim:<16} {self.failed.total():6d} {self.answered:9d} {self.next_answer:10.2f} s "
            f"{self.last_failure:10.2f} s {self.whole:10.1f} s   {counts}"
        )


HEAD = f"{'kill -9':<16} failed  answered  next answer  last failure  successor   how they failed"


@pytest.fixture(scope="module")
def address(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointAddress]:
    stop_serve()  # where another test left it
    yield start_endpoint("killed", tmp_path_factory.mktemp("runs"), port=18480, scale=Scale(REPLICAS, REPLICAS, 0.5))
    stop_endpoint("killed")
    assert stop_serve()


def is_whole(handle: EndpointHandle, version: int, here: set[str]) -> bool:
    """Whether as many replicas as there should be serve the rollout, and a process of each kind is there."""
    there = [replica["contender"] for replica in handle.status()["replicas"]]
    kinds = found_kinds()
    return there == [version] * REPLICAS and kinds >= here


def found_kinds() -> set[str]:
    return set(map(kind_of, found_processes()))


def kind_of(name: str) -> str:
    """A replica without its number."""
    return name.rstrip(" 0123456789")


def kill(victim: str, process: psutil.Process, load: Load, handle: EndpointHandle, version: int) -> Kill:
    """Kills it, waits until all is well again, and returns what it cost."""
    answers, errors, here = len(load.answers), len(load.errors), found_kinds()
    began = time.monotonic()
    process.send_signal(signal.SIGKILL)
    process.wait(RECOVERY_SECONDS)
    wait_until(lambda: is_whole(handle, version, here), RECOVERY_SECONDS, f"a successor of the {victim}")
    whole = time.monotonic() - began

    def is_calm() -> bool:
        last = max((error["ended"] for error in load.errors[errors:]), default=began)
        return time.monotonic() - last > CALM_SECONDS and load.answers[-1]["begun"] > last

    wait_until(is_calm, RECOVERY_SECONDS, "an end of the failures")
    failed, good = load.errors[errors:], load.answers[answers:]
    return Kill(
        victim,
        Counter(str(error.get("status", error.get("error", "?").partition("(")[0])) for error in failed),
        len(good),
        min(answer["ended"] for answer in good if answer["begun"] > began) - began,
        max((error["ended"] - began for error in failed), default=0.0),
        whole,
    )


class Patient(threading.Thread):
    """A client that asks again where it may, as `deploy.Client` does by itself."""

    def __init__(self, address: EndpointAddress) -> None:
        super().__init__(name="patient", daemon=True)
        self._address = address
        self.over = threading.Event()
        self.errors: list[str] = []
        self.retried = 0

    def run(self) -> None:
        """Asks until it is told to stop."""
        with Client(self._address.url, self._address.token, timeout_seconds=30.0) as client:
            while not self.over.wait(PAUSE_SECONDS):
                try:
                    client.predict([{"width": 1.0, "height": 2.0}])
                except EndpointError as error:
                    self.errors.append(str(error))
                self.retried = client.retried


def test_what_each_death_costs(address: EndpointAddress, tmp_path: Path, record_property: Any) -> None:
    handle, shop = endpoint_handle("killed"), Shop(tmp_path)
    handle.promote(shop.make("ant"))
    version = int(handle.offer(shop.make("bee"), RolloutPlan("canary", (0.5,), 3600.0, alpha=1e-12))["version"])
    wait_until(lambda: is_whole(handle, version, NEEDED), what="all processes")
    victims = sorted(found_kinds()) * TIMES
    assert set(victims) >= NEEDED
    random.Random(SEED).shuffle(victims)
    print(f"KILLS_SEED={SEED}\n{HEAD}")
    kills = []
    patient = Patient(address)
    patient.start()
    unmended: Counter[str] = Counter()
    with Load(address, CLIENTS, PAUSE_SECONDS) as load:
        for victim in victims:
            before = len(patient.errors)
            found = next(process for name, process in found_processes().items() if kind_of(name) == victim)
            kills.append(kill(victim, found, load, handle, version))
            unmended[victim] += len(patient.errors) - before
            print(kills[-1], flush=True)
    patient.over.set()
    patient.join()
    print(f"a client that asks again, did so {patient.retried} times; failed: {dict(unmended)}")
    assert {victim for victim, count in unmended.items() if count} <= WAYS_IN, patient.errors
    assert {answer["predictions"][0] for answer in load.answers} == {"ant", "bee"}
    for one in kills:
        assert one.next_answer < RECOVERY_SECONDS
        assert one.failed.total() <= MOST_FAILED.get(one.victim, one.failed.total()), one
    assert sum(one.answered for one in kills) > 10 * sum(one.failed.total() for one in kills if one.victim == "replica")

"""A thousand changes of an endpoint under load: no request fails, and no version answers that should not.

Meanwhile replicas come and go with the load, and another endpoint comes into them, is asked, and leaves.

`CHANGES_SEED=… CHANGES=… pytest tests/system/test_thousand_changes.py` draws other changes, or more or fewer of them.
The same seed draws the same ones; at which request each comes is left to the machine.
"""

import os
import random
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from under_load import LABELS, Asker, Decided, Load, Shop, wait_until

from deploy import (
    EndpointAddress,
    EndpointHandle,
    Scale,
    endpoint_handle,
    share_endpoint,
    start_endpoint,
    stop_endpoint,
    stop_serve,
)
from orchestrator.domain.rollout import RolloutPlan

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(900)]

CHANGES = int(os.environ.get("CHANGES", "1000"))
SEED = int(os.environ.get("CHANGES_SEED", "11"))
BY_HAND = ("promote", "rollback", "by_hand", "back_to", "freeze")
KINDS = ("canary", "canary", "canary", "shadow", "shadow", *BY_HAND)  # where no rollout goes on
HOUR = 3600.0  # of a step: only what is asked for moves a rollout
NEVER = 1e-12  # the chance that one is withdrawn by itself, which would be a change that nobody drew
BUNDLES = 24
CROWD, FEW = 12, 2  # clients at once
CROWD_ROWS = 1500  # in each of their requests: a replica has to be at work for longer than a client
SCALE = Scale(1, 3, 0.5, ongoing=1.5, down_seconds=1.0)  # the crowd takes three replicas, the few one
CROWDS_EVERY = 30  # changes
PAUSE_SECONDS = 0.15  # between two changes at most, so that requests meet each of them
SCALED_SECONDS = 60.0
BESIDE = "plants"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def address(ray_session: None, storage: Path) -> Iterator[EndpointAddress]:
    stop_serve()  # where another test left it
    yield start_endpoint("animals", storage, port=18420, scale=SCALE)
    stop_endpoint("animals")
    assert stop_serve()


class Course:
    """Draws changes, makes them, and keeps what each led to."""

    def __init__(self, handle: EndpointHandle, bundles: list[str], seed: int) -> None:
        self._handle = handle
        self._bundles = bundles
        self._chance = random.Random(seed)
        self.decided = Decided()
        self.made: Counter[str] = Counter()
        self.seconds: list[float] = []
        self._status = handle.status()

    def change(self) -> None:
        """Makes one change: draws until one is drawn that changes something."""
        while True:
            kind = self._chance.choice(KINDS if self._status["rollout"] is None else BY_HAND)
            asked = time.monotonic()
            done = getattr(self, kind)()
            made = time.monotonic()
            self._status = self._handle.status()
            assert done.get("errors", []) == [], (kind, done)
            self.decided.add(asked, made, self._status)
            time.sleep(self._chance.uniform(0.0, PAUSE_SECONDS))
            if done["changed"]:
                self.made[kind] += 1
                self.seconds.append(made - asked)
                return

    def canary(self) -> dict[str, Any]:
        return self._offer("canary", self._chance.choice([0.01, 0.3, 0.9]))

    def shadow(self) -> dict[str, Any]:
        return self._offer("shadow", 0.0)

    def promote(self) -> dict[str, Any]:
        return self._handle.promote(self._chance.choice(self._bundles))

    def rollback(self) -> dict[str, Any]:
        return self._handle.rollback()

    def by_hand(self) -> dict[str, Any]:
        return self._handle.promote_version(self._any_version())

    def back_to(self) -> dict[str, Any]:
        return self._handle.rollback(self._any_version())

    def freeze(self) -> dict[str, Any]:
        """Freezes, sees that what is offered changes nothing, and lets go."""
        before = self._status["generation"]
        assert self._handle.freeze(True, who="a test", why="a holiday")
        offered = self._handle.offer(self._chance.choice(self._bundles), self._plan("canary", 0.5))
        assert not offered["changed"]
        assert self._handle.routing()["generation"] == before
        return {"changed": self._handle.freeze(False, who="a test")}

    def _offer(self, kind: str, weight: float) -> dict[str, Any]:
        by_place = {one["uri"]: one["version"] for one in self._status["versions"]}
        out = {self._status["version"], *self._status["withdrawn"]}
        left = [bundle for bundle in self._bundles if by_place.get(Path(bundle).as_uri()) not in out]
        return self._handle.offer(self._chance.choice(left), self._plan(kind, weight)) if left else {"changed": False}

    def _plan(self, kind: str, weight: float) -> RolloutPlan:
        return RolloutPlan(kind, (weight,), HOUR, alpha=NEVER)

    def _any_version(self) -> int:
        return self._chance.randint(1, len(self._status["versions"]))


class Crowd:
    """Lets clients come and go, and with them replicas; the next change waits until the last one has come about."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self.sizes = [len(running(endpoint_handle("animals")))]
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Crowd":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def turn(self) -> None:
        """Waits for as many replicas as the clients need, then changes how many clients there are."""
        wanted = SCALE.most if self._load.busy == CROWD else SCALE.least
        wait_until(lambda: self.sizes[-1] == wanted, SCALED_SECONDS, f"{wanted} replicas for {self._load.busy} clients")
        is_over = self._load.busy == CROWD
        self._load.busy, self._load.rows = (FEW, 1) if is_over else (CROWD, CROWD_ROWS)

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            now = len(running(endpoint_handle("animals")))
            if now != self.sizes[-1]:
                self.sizes.append(now)


class Company:
    """Another endpoint in the same replicas: at each turn it comes and is asked, or leaves."""

    def __init__(self, storage: Path, bundles: list[str]) -> None:
        self._storage, self._bundles = storage, bundles
        self.comings = 0
        self._is_there = False

    def turn(self) -> None:
        if self._is_there:
            self.leave()
            return
        address = share_endpoint(BESIDE, self._storage, "animals")
        self._is_there = True
        endpoint_handle(BESIDE).promote(self._bundles[self.comings % BUNDLES])
        asker = Asker(address)
        said = {asker.ask()["predictions"][0] for _ in range(20)}
        assert said == {LABELS[self.comings % len(LABELS)]}
        self.comings += 1

    def leave(self) -> None:
        if self._is_there:
            stop_endpoint(BESIDE)
        self._is_there = False


def running(handle: EndpointHandle) -> set[int]:
    return {replica["pid"] for replica in handle.status()["replicas"]}


def test_a_thousand_changes_cost_no_request_and_no_wrong_answer(
    address: EndpointAddress, storage: Path, tmp_path: Path, record_property: Any
) -> None:
    print(f"CHANGES_SEED={SEED}")
    handle, shop = endpoint_handle("animals"), Shop(tmp_path)
    bundles = [shop.make(LABELS[number % len(LABELS)]) for number in range(BUNDLES)]
    handle.promote(bundles[0])
    course = Course(handle, bundles, SEED)
    course.decided.add(0.0, time.monotonic(), handle.status())
    company = Company(storage, bundles)
    with Load(address, CROWD) as load:
        load.busy = FEW
        began = time.monotonic()
        with Crowd(load) as crowd:
            for number in range(CHANGES):
                if number % CROWDS_EVERY == 0:
                    crowd.turn()
                if number % CROWDS_EVERY == CROWDS_EVERY // 2:
                    company.turn()
                course.change()
        company.leave()
        seconds = time.monotonic() - began
    strangers = course.decided.strangers(load.answers)
    scaled = len(crowd.sizes) - 1
    print(
        f"{CHANGES} changes in {seconds:.0f} s, {1000 * statistics.median(course.seconds):.0f} ms each and "
        f"{1000 * max(course.seconds):.0f} ms at most: {dict(course.made)}\n"
        f"{scaled} changes of the number of replicas: {crowd.sizes}; another endpoint came {company.comings} times\n"
        f"{len(load.answers)} answers, {len(load.errors)} failed, {len(strangers)} of a version that should not answer"
    )
    for one in load.errors[:5] + strangers[:5]:
        print(one)
    versions = handle.status()["versions"]
    says = {str(one["version"]): LABELS[(one["lineage"]["trial"] - 1) % len(LABELS)] for one in versions}
    assert load.errors == []
    assert strangers == []
    assert all(set(answer["predictions"]) == {says[answer["version"]]} for answer in load.answers)
    assert len({answer["version"] for answer in load.answers}) > len(says) // 2, "versions take turns"
    assert scaled >= CHANGES // CROWDS_EVERY // 2

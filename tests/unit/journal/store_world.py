"""An object store and its hosts on a virtual clock: slow and lost requests, stalls, partitions, late effects.

Each host is a thread, but only one runs at a time, and who is next is decided by the world's clock: the same seed gives
the same schedule.
"""

import heapq
import itertools
import random
import threading
from collections.abc import Callable, Iterator, Sequence

from orchestrator.domain.errors import StorageError

TIMEOUT = 3.0  # seconds after which a client gives a request up


class Crash(BaseException):
    """The process is gone."""


class World:
    """The objects, the time, and the hosts that live in it."""

    uri = "world://journal"

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.objects: dict[str, bytes] = {}
        self.now = 0.0
        self.ended = False
        self.on_landing: Callable[[str], None] = lambda name: None
        self.trouble: BaseException | None = None
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._back = threading.Semaphore(0)
        self._threads: list[threading.Thread] = []

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), what))

    def start(self, host: "Host", life: Callable[["Host"], None]) -> None:
        def run() -> None:
            host.go.acquire()
            try:
                life(host)
            except BaseException as error:  # noqa: BLE001 - the world raises it again
                self.trouble = error
            self._back.release()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        self._threads.append(thread)
        self.at(0.0, lambda: self._hand_over(host))

    def _hand_over(self, host: "Host") -> None:
        host.go.release()
        self._back.acquire()

    def wait(self, host: "Host", until: float) -> None:
        self.at(until, lambda: self._hand_over(host))
        self._back.release()
        host.go.acquire()

    def run(self, end: float) -> None:
        """Runs until `end`, lets every host stop by itself, and every late request arrive."""
        while self._events and self.trouble is None:
            self.now, _, what = heapq.heappop(self._events)
            self.ended = self.now > end
            what()
        if self.trouble is not None:
            raise self.trouble
        for thread in self._threads:
            thread.join()

    # the store itself, for readers that are spared the network

    def find(self, name: str) -> bytes | None:
        return self.objects.get(name)

    def read_many(self, names: Sequence[str]) -> Iterator[bytes]:
        for name in names:
            if name not in self.objects:
                raise StorageError(f"{name} is missing")
            yield self.objects[name]

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return {name: len(self.objects[name]) for name in sorted(self.objects) if name.startswith(prefix)}

    def write(self, name: str, data: bytes) -> None:
        self.objects[name] = data
        self.on_landing(name)

    def delete(self, name: str) -> None:
        self.objects.pop(name, None)

    def delete_many(self, names: Sequence[str]) -> None:
        for name in names:
            self.delete(name)


class Host:
    """One host's view of the store, and its own clock. Dies where it is told to."""

    def __init__(self, world: World, *, trouble: float) -> None:
        self.world = world
        self.trouble = trouble  # chance of a stall, a late request, a crash at each step
        self.rate = world.random.uniform(0.75, 1.3)
        self.go = threading.Semaphore(0)
        self.uri = world.uri
        self.partitioned_until = 0.0
        self.crashed = False
        self.may_crash = False

    def clock(self) -> float:
        return self.world.now * self.rate

    def sleep(self, seconds: float) -> None:
        self._wait(seconds / self.rate)

    def _wait(self, seconds: float) -> None:
        chance = self.world.random
        if chance.random() < self.trouble:
            seconds += chance.choice([2.0, 6.0, 12.0, 40.0])  # the process is stopped, the host suspended
        self.world.wait(self, self.world.now + seconds)
        if self.may_crash and chance.random() < self.trouble / 3:
            self.crashed = True
        if self.crashed:
            raise Crash

    def _request(self, effect: Callable[[], object], *, name: str) -> object:
        """Sends a request; the effect happens at some time, and the answer may come after the client gave up."""
        if self.crashed:
            raise Crash
        world, chance = self.world, self.world.random
        if chance.random() < self.trouble:
            self.partitioned_until = world.now + chance.choice([1.0, 8.0, 25.0])
        if world.now < self.partitioned_until:
            self._wait(TIMEOUT)
            raise StorageError(f"{name}: no answer")
        there = chance.uniform(0.01, 0.3)
        if chance.random() < self.trouble:
            there = chance.choice([1.0, 4.0, 11.0, 35.0])
        back = chance.uniform(0.01, 0.3) if chance.random() > self.trouble else 9.0
        result: list[object] = []
        world.at(world.now + there, lambda: result.append(effect()))
        self._wait(min(there + back, TIMEOUT))
        if there + back > TIMEOUT or not result:
            raise StorageError(f"{name}: no answer")
        return result[0]

    def find(self, name: str) -> bytes | None:
        return self._request(lambda: self.world.find(name), name=name)  # type: ignore[return-value]

    def read_many(self, names: Sequence[str]) -> Iterator[bytes]:
        found = self._request(lambda: {name: self.world.find(name) for name in names}, name=str(names))
        for name, data in found.items():  # type: ignore[attr-defined]
            if data is None:
                raise StorageError(f"{name} is missing")
            yield data

    def sizes(self, prefix: str = "") -> dict[str, int]:
        return self._request(lambda: self.world.sizes(prefix), name=prefix)  # type: ignore[return-value]

    def write(self, name: str, data: bytes) -> None:
        self._request(lambda: self.world.write(name, data), name=name)

    def delete(self, name: str) -> None:
        self._request(lambda: self.world.delete(name), name=name)

    def delete_many(self, names: Sequence[str]) -> None:
        for name in names:
            self.delete(name)

"""An endpoint under steady load and steady change, and whether its processes grow: `make soak`.

Two replicas answer clients without a pause in the course of promotions, canaries, shadows, rollbacks and posted labels,
while the private memory (what would be free without the process), file descriptors and threads of each process are
sampled. Each has to be flat: the slope of its memory over the second half, twice its standard error taken off, stays
below a bound an hour, and neither descriptors nor threads grow from the second quarter to the last.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import psutil
import ray

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from under_load import LABELS, Asker, Load, Shop, wait_until  # noqa: E402

from deploy import (  # noqa: E402
    EndpointAddress,
    EndpointHandle,
    Scale,
    endpoint_handle,
    start_endpoint,
    stop_endpoint,
    stop_serve,
)
from deploy.rollout.evidence import EvidenceBook  # noqa: E402
from orchestrator.domain.rollout import RolloutPlan  # noqa: E402

MB = 1024 * 1024
NAME = "soaked"
# Of the endpoint actor. What Ray remembers of calls grew by 9 MB over the first 2,000 of them, by 2 over 46,000 more.
WARM_CALLS = 6000
MOST_MB_AN_HOUR = 25.0  # of a process that has 100 to 200 of them; a leak of a kilobyte a request makes 250
MOST_MORE = 3  # descriptors or threads; pools may still be growing
PAUSE_SECONDS = 0.02  # of each client between two requests
SAMPLE_SECONDS = 2.0
STAYS_SECONDS = 5.0
CLIENTS = 3
BUNDLES = 12
KINDS = {
    "ray::ServeReplica": "replica",
    "ray::EndpointActor": "endpoint actor",
    "ray::ServeController": "controller",
    "ray::ProxyActor": "proxy",
    "ray::HAProxyManager": "HAProxy's manager",
}


@dataclass(frozen=True)
class Sample:
    """One process at a moment: bytes that nobody else holds, open descriptors, threads."""

    at: float
    memory: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Course:
    """What a process did over the second half: MB an hour with the standard error, the noise about it, and from where.

    `more_descriptors` and `more_threads` are the medians' growth from the second quarter to the last.
    """

    process: str
    first_mb: float
    last_mb: float
    slope: float
    error: float
    noise_mb: float
    descriptors: int
    more_descriptors: int
    threads: int
    more_threads: int

    @classmethod
    def of(cls, process: str, samples: Sequence[Sample]) -> "Course":
        half = samples[len(samples) // 2 :]
        slope, error, noise = fitted([s.at / 3600 for s in half], [s.memory / MB for s in half])
        quarter = len(samples) // 4
        early, late = samples[quarter : 2 * quarter], samples[-quarter:]
        descriptors, threads = (
            [int(statistics.median(getattr(s, what) for s in part)) for part in (early, late)]
            for what in ("descriptors", "threads")
        )
        ends = (statistics.median(s.memory for s in part) / MB for part in (half[:5], half[-5:]))
        more = descriptors[1] - descriptors[0], threads[1] - threads[0]
        return cls(process, *ends, slope, error, noise, descriptors[1], more[0], threads[1], more[1])

    def faults(self, most_mb_an_hour: float) -> list[str]:
        """Returns in what it is not flat."""
        found = []
        if self.slope - 2 * self.error > most_mb_an_hour:
            found.append(f"{self.process}: {self.slope:.1f} ± {self.error:.1f} MB an hour, over {most_mb_an_hour:g}")
        for what, more in (("descriptors", self.more_descriptors), ("threads", self.more_threads)):
            if more > MOST_MORE:
                found.append(f"{self.process}: {more} more {what}")
        return found

    def __str__(self) -> str:
        memory = f"{self.first_mb:7.1f} → {self.last_mb:7.1f} MB {self.slope:+8.1f} ± {self.error:4.1f} MB/h"
        counts = f"{self.descriptors:4d} files {self.more_descriptors:+d} {self.threads:4d} threads"
        return f"{self.process:<16} {memory} (noise {self.noise_mb:.2f} MB) {counts} {self.more_threads:+d}"


def fitted(times: Sequence[float], values: Sequence[float]) -> tuple[float, float, float]:
    """Returns the slope of the straight line of least squares, its standard error, and the deviation about the line."""
    line = statistics.linear_regression(times, values)
    rest = [value - line.slope * moment - line.intercept for moment, value in zip(times, values, strict=True)]
    noise = (sum(r * r for r in rest) / (len(rest) - 2)) ** 0.5
    middle = statistics.fmean(times)
    spread = sum((moment - middle) ** 2 for moment in times) ** 0.5
    return line.slope, noise / spread, noise


class Sampler:
    """Looks at each process of the endpoint every two seconds, and says how it goes."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._processes = dict(sorted(found_processes().items()))
        self.samples: dict[str, list[Sample]] = {name: [] for name in self._processes}

    def watch(self, load: Load, change: "Changes", tell: bool) -> None:
        """Samples until the time is over; raises where a process has died."""
        began, told = time.monotonic(), 0.0
        while (now := time.monotonic() - began) < self._seconds:
            for name, process in self._processes.items():
                with process.oneshot():
                    sizes = process.memory_full_info().uss, process.num_fds(), process.num_threads()
                self.samples[name].append(Sample(now, *sizes))
            if change.error is not None:
                raise change.error
            if tell and now - told >= 15.0:
                told = now
                self._tell(now, load, change)
            time.sleep(SAMPLE_SECONDS)

    def _tell(self, now: float, load: Load, change: "Changes") -> None:
        done = int(20 * now / self._seconds)
        sizes = "  ".join(f"{name} {every[-1].memory / MB:.1f}" for name, every in self.samples.items())
        counts = f"{len(load.answers)} answers, {len(load.errors)} failed, {change.made} changes"
        print(f"[{'#' * done}{'.' * (20 - done)}] {now / 60:4.1f} min  {counts};  MB: {sizes}", flush=True)

    def courses(self) -> list[Course]:
        return [Course.of(name, samples) for name, samples in self.samples.items()]


def found_processes() -> dict[str, psutil.Process]:
    """Returns the endpoint's processes by what they are; replicas are numbered."""
    found: dict[str, psutil.Process] = {}
    for process in psutil.Process().children(recursive=True):
        try:
            line = "HAProxy" if process.name() == "haproxy" else " ".join(process.cmdline())
        except psutil.Error:
            continue
        kind = next((kind for mark, kind in {**KINDS, "HAProxy": "HAProxy"}.items() if line.startswith(mark)), None)
        if kind == "replica":
            kind = f"replica {sum(name.startswith('replica') for name in found) + 1}"
        if kind is not None:
            found[kind] = process
    return found


def haproxy_stays() -> bool:
    """Returns whether one HAProxy at most is there, and not a new one: each change of replicas brings another."""
    there = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            there += [process.create_time()] if process.name() == "haproxy" else []
    return len(there) <= 1 and all(time.time() - started > STAYS_SECONDS for started in there)


class Changes(threading.Thread):
    """Promotes, rolls out, rolls back and posts labels, one after the other, until it is told to stop."""

    def __init__(self, address: EndpointAddress, bundles: Sequence[str], load: Load, seed: int) -> None:
        super().__init__(name="changes", daemon=True)
        self._handle = endpoint_handle(NAME)
        self._asker = Asker(address)
        self._bundles = bundles
        self._load = load
        self._chance = random.Random(seed)
        self.over = threading.Event()
        self.made = 0
        self.labels = 0
        self.error: Exception | None = None

    def run(self) -> None:
        """Changes something about twice a second."""
        try:
            while not self.over.wait(self._chance.uniform(0.1, 0.5)):
                self._change()
                for answer in self._load.answers[-10:]:
                    assert self._asker.label(answer["id"], self._chance.choice(LABELS)) == 202
                    self.labels += 1
        except Exception as error:  # noqa: BLE001 - a thread's edge: the sampler raises it
            self.error = error

    def _change(self) -> None:
        handle, bundle = self._handle, self._chance.choice(self._bundles)
        plan = RolloutPlan("canary", self._chance.choice([(0.0,), (0.3,), (0.0, 0.5)]), None, 30, alpha=1e-9)
        match self._chance.randrange(4):
            case 0:
                handle.promote(bundle)
            case 1:
                handle.rollback()
            case _:
                said: Mapping[str, Any] = handle.offer(bundle, plan)
                if said["state"] == "rollout" and self._chance.random() < 0.7:  # it goes through its steps by itself
                    wait_until(lambda: handle.standing(said["version"])["state"] != "rollout", what="the rollout's end")
        self.made += 1


@contextmanager
def soaked_endpoint(directory: Path, port: int) -> Iterator[tuple[EndpointAddress, list[str]]]:
    """An endpoint with two replicas, in the Ray that this process is connected to, and bundles for it."""
    shop = Shop(directory / "bundles")
    bundles = [shop.make(LABELS[number % len(LABELS)]) for number in range(BUNDLES)]
    address = start_endpoint(NAME, directory / "runs", port=port, scale=Scale(2, 2, 0.5))
    try:
        handle = endpoint_handle(NAME)
        wait_until(lambda: len(handle.status()["replicas"]) == 2, what="two replicas")
        handle.promote(bundles[0])
        _fill(handle)
        wait_until(haproxy_stays, what="one HAProxy that knows all replicas, and those before it to end")
        yield address, bundles
    finally:
        stop_endpoint(NAME)
        stop_serve()


def _fill(handle: EndpointHandle) -> None:
    """Fills the endpoint actor's memories that have a bound, so that what grows afterwards has none."""
    for _ in range(WARM_CALLS):
        handle.standing(1)
    numbers = iter(range(EvidenceBook.REMEMBERED))
    while labels := [[f"answer {number}", 1, 0, 1, 0] for number in islice(numbers, 1000)]:
        ray.get(handle.actor.observe.remote("nobody", 0, None, labels, []))


def soak(directory: Path, seconds: float, *, port: int = 18460, seed: int = 3, tell: bool = False) -> list[Course]:
    """Loads an endpoint and changes it for so long; returns the course of each of its processes.

    Raises:
        AssertionError: a request failed, or a replica is another one than at the beginning.
    """
    with soaked_endpoint(directory, port) as (address, bundles), Load(address, CLIENTS, PAUSE_SECONDS) as load:
        changes, sampler = Changes(address, bundles, load, seed), Sampler(seconds)
        before = set(found_processes().values())
        changes.start()
        try:
            sampler.watch(load, changes, tell)
        finally:
            changes.over.set()
            changes.join()
        assert set(found_processes().values()) == before, "a process died"
        assert load.errors == [], load.errors[:5]
    counts = f"{len(load.answers)} answers, {changes.made} changes, {changes.labels} labels"
    print(f"{counts}, {len(sampler.samples['controller'])} samples of each process in {seconds / 60:g} minutes")
    courses = sampler.courses()
    print(*courses, sep="\n", flush=True)
    return courses


def main() -> int:
    """Returns 1 where a process grows."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--minutes", type=float, default=15.0)
    asked.add_argument("--most", type=float, default=MOST_MB_AN_HOUR, help="MB an hour that a process may grow")
    given = asked.parse_args()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False, namespace="orchestrator")
    with tempfile.TemporaryDirectory() as directory:
        courses = soak(Path(directory), 60 * given.minutes, tell=True)
    ray.shutdown()
    faults = [fault for course in courses for fault in course.faults(given.most)]
    print("\n".join(faults) or f"flat: no process grows by {given.most:g} MB an hour", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())

"""What a replica counts: both arms of a rollout, and how long its answers are computed."""

import threading

from deploy.rollout.evidence import ArmCounts, Evidence

PACE_SHARE = 0.9
PACE_LEAST = 20  # answers, before they say how long one takes


class Tally:
    """One rollout's counts since this replica heard of it. Written by several threads, each count under the lock."""

    def __init__(self, slow_seconds: float) -> None:
        self._slow_seconds = slow_seconds
        self._lock = threading.Lock()
        self._champion = [0, 0, 0]  # asked, failed, slow
        self._challenger = [0, 0, 0]
        self._compared = 0
        self._differed = 0

    def champion(self, seconds: float = 0.0, *, failed: bool = False) -> None:
        """Counts a request that the champion was asked first."""
        self._count(self._champion, seconds, failed)

    def challenger(self, seconds: float = 0.0, *, failed: bool = False) -> None:
        """Counts a request, or a copy of one, that the challenger was asked."""
        self._count(self._challenger, seconds, failed)

    def compared(self, *, differed: bool) -> None:
        """Counts a request that both answered."""
        with self._lock:
            self._compared += 1
            self._differed += differed

    @property
    def evidence(self) -> Evidence:
        """The counts so far."""
        with self._lock:
            return Evidence(ArmCounts(*self._champion), ArmCounts(*self._challenger), self._compared, self._differed)

    def _count(self, arm: list[int], seconds: float, failed: bool) -> None:
        with self._lock:
            arm[0] += 1
            arm[1] += failed
            arm[2] += seconds > self._slow_seconds


class Pace:
    """How long the champion's answers are computed, in powers of two of a microsecond. Written by the event loop."""

    def __init__(self) -> None:
        self._counts = [0] * 40

    def add(self, seconds: float) -> None:
        """Counts an answer."""
        self._counts[min(int(seconds * 1e6).bit_length(), 39)] += 1

    @property
    def usual_seconds(self) -> float | None:
        """What nine of ten answers took at most, to the next power of two; None before there were enough."""
        counts, seen = list(self._counts), 0
        total = sum(counts)
        if total < PACE_LEAST:
            return None
        for power, count in enumerate(counts):
            seen += count
            if seen >= PACE_SHARE * total:
                return float(2**power) * 1e-6
        return None

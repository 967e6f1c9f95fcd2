"""What a replica counts of its requests: plain numbers on the way of a request, made into text when somebody asks.

`ray.util.metrics` and prometheus_client's own counters take a lock and a dictionary of labels each time; what is here
costs a request about 1 µs.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Upper bounds in seconds: a row takes a tenth of a millisecond, a full request some tens, a loaded host its queue.
SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)  # requests in a batch
UNKNOWN = "unknown"  # the route of a request that was refused before it was found, and of a path that is none
HTTP, GRPC = "http", "grpc"
KINDS: Mapping[int, str] = {
    400: "unreadable",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method",
    406: "not_acceptable",
    408: "slow",
    409: "conflict",
    413: "too_large",
    415: "media_type",
    422: "unfitting",
    429: "busy",
    500: "failed",
    503: "unavailable",
    504: "deadline",
}


class Histogram:
    """How many values were at most each bound, the rest last, and their sum. Written by one thread."""

    __slots__ = ("_bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Counts a value."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.sum += value


class Meter:
    """Counts one replica's requests. Written by its event loop, read by any thread.

    Whoever batches requests says so with `batch`, and with `queued` how many wait.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.queued = 0
        self._requests: dict[tuple[str, str, int], int] = {}
        self._seconds: dict[str, Histogram] = {}
        self._batches = Histogram(SIZES)

    def end(self, protocol: str, route: str, status: int, seconds: float) -> None:
        """Counts a request that was answered."""
        key = (protocol, route, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        known = self._seconds.get(route)
        if known is None:
            known = self._seconds[route] = Histogram(SECONDS)
        known.add(seconds)

    def batch(self, requests: int) -> None:
        """Counts requests that a model answered at once."""
        self._batches.add(requests)

    def reading(self) -> dict[str, Any]:
        """Returns all that was counted, as plain data."""
        requests, seconds = self._requests.copy(), self._seconds.copy()  # in one step each: no other thread between
        return {
            "in_flight": self.in_flight,
            "queued": self.queued,
            "requests": [[*key, count] for key, count in requests.items()],
            "seconds": {route: [histogram.counts.copy(), histogram.sum] for route, histogram in seconds.items()},
            "batches": [self._batches.counts.copy(), self._batches.sum],
        }


@dataclass(frozen=True, slots=True)
class Standing:
    """What a replica is and serves, beside what it counted."""

    replica: str
    pid: int
    started: float
    version: int | None = None
    study: str = ""
    trial: int | None = None
    generation: int = 0
    contender: int | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """One replica's numbers at one moment."""

    standing: Standing
    counted: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        standing = {name: getattr(self.standing, name) for name in Standing.__slots__}
        return {"standing": standing, "counted": dict(self.counted)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Reading":
        """Returns the reading that `to_dict` wrote."""
        return cls(Standing(**given["standing"]), given["counted"])

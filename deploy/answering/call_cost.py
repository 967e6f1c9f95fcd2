"""What one call of a model costs, measured when it is loaded: whether requests should share a call follows from it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deploy.bundle import Bundle

BATCH_ROWS = 16  # of the larger call that is timed; 2 for a slow model
SLOW_SECONDS = 5e-3
REPEATS = 7  # the fastest counts: what disturbs a call only makes it longer
PATIENCE_SECONDS = 0.05  # after which a slow model is not called again for this
LEAST_SECONDS = 1e-9  # of a further row; a clock may find none
# What sharing costs a request: it cannot be answered in one step, needs a future and a turn of the event loop, and its
# part is cut out. All of it is Python's work, so it is known as a multiple of other such work, timed on this host.
JOINING_WORKS = 6.0
WORK = range(100)


@dataclass(frozen=True, slots=True)
class CallCost:
    """The seconds that a thread computes for one row, for each further row of the same call, and for sharing one."""

    first: float
    further: float
    joining: float = 15e-6

    @property
    def is_shared(self) -> bool:
        """Whether a request that shares a call saves more than it costs to share one."""
        return self.first - self.further > self.joining

    def seconds(self, rows: int) -> float:
        """Returns what a call with so many rows takes."""
        return self.first + self.further * (rows - 1)

    def rows_within(self, seconds: float) -> int:
        """Returns how many rows a call has that takes no longer; 1 at least."""
        left = max(0.0, seconds - self.first)
        return 1 + int(left / max(self.further, LEAST_SECONDS))


def measure_cost(bundle: Bundle) -> CallCost:
    """Returns what calls of a bundle's model cost, without the reading of a request.

    The time is the thread's own, so that it is right beside a busy event loop. Takes a few calls; for a model that is
    slow two.

    Raises:
        BundleError: when the model fails on its own sample.
    """
    sample = bundle.encode(bundle.sample)
    first = _fastest(lambda: bundle.score(sample[:1]))
    rows = BATCH_ROWS if first < SLOW_SECONDS else 2
    several = np.resize(sample, (rows, sample.shape[1]))
    together = _fastest(lambda: bundle.score(several))
    return CallCost(first, max(0.0, together - first) / (rows - 1), JOINING_WORKS * _fastest(_work))


def _work() -> list[str]:
    return [str(number) for number in WORK]


def _fastest(action: Callable[[], object]) -> float:
    found, spent = float("inf"), 0.0
    for _ in range(REPEATS):
        start = time.thread_time()
        action()
        taken = time.thread_time() - start
        found, spent = min(found, taken), spent + taken
        if spent > PATIENCE_SECONDS:
            break
    return found

"""What one call of a model costs, measured when it is loaded: whether requests should share a call follows from it."""

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Bundle

BATCH_ROWS = 16  # of the larger call that is timed; 2 for a slow model
SLOW_SECONDS = 5e-3
REPEATS = 7  # the fastest counts: what disturbs a call only makes it longer
PATIENCE_SECONDS = 0.05  # after which a slow model is not called again for this
LEAST_SECONDS = 1e-9  # of a further row; a clock may find none
JOINING_SECONDS = 15e-6  # what sharing costs a request: a future, a turn of the event loop, its part of the cutting


@dataclass(frozen=True, slots=True)
class CallCost:
    """The seconds that a thread computes for one row, and for each further row of the same call."""

    first: float
    further: float

    @property
    def is_shared(self) -> bool:
        """Whether a request that shares a call saves more than it costs to share one."""
        return self.first - self.further > JOINING_SECONDS

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
    first = _fastest(bundle, sample[:1])
    rows = BATCH_ROWS if first < SLOW_SECONDS else 2
    together = _fastest(bundle, np.resize(sample, (rows, sample.shape[1])))
    return CallCost(first, max(0.0, together - first) / (rows - 1))


def _fastest(bundle: Bundle, numbers: NDArray[np.float32]) -> float:
    found, spent = float("inf"), 0.0
    for _ in range(REPEATS):
        start = time.thread_time()
        bundle.score(numbers)
        taken = time.thread_time() - start
        found, spent = min(found, taken), spent + taken
        if spent > PATIENCE_SECONDS:
            break
    return found

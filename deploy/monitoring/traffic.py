"""What is asked and answered, counted by the bins of the model's profile: a sample, off the way of the answers.

The event loop keeps a few requests; the thread that reports counts them and forgets them.
"""

import random
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Bundle, Prediction, Table

KEPT = 64  # requests between two looks, of those that came any with the same chance
ROWS = 32  # of a request
FADING_ROWS = 100_000  # after so many all counts are halved: what was asked lately weighs more


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that was answered: the version, its bundle, some of the rows, and what was predicted for them."""

    version: int
    bundle: Bundle
    rows: NDArray[np.float32] | Table
    prediction: Prediction


class Traffic:
    """A sample of a replica's requests. Filled by the event loop, emptied by the thread that reports."""

    def __init__(self) -> None:
        self._kept: list[Seen] = []
        self._came = 0
        self._chance = random.Random()

    def add(self, version: int, bundle: Bundle, rows: NDArray[np.float32] | Table, prediction: Prediction) -> None:
        """Keeps a request, or not (Vitter's algorithm R)."""
        self._came += 1
        kept = self._kept  # read once: the other thread takes it away at any moment
        place = len(kept)
        if place >= KEPT:
            place = int(self._chance.random() * self._came)
            if place >= KEPT:
                return
        seen = Seen(version, bundle, rows if len(rows) <= ROWS else _copied(rows[:ROWS]), prediction)
        if place < len(kept):
            kept[place] = seen
        else:
            kept.append(seen)

    def take(self) -> list[Seen]:
        """Returns what was kept, and begins anew."""
        kept, self._kept, self._came = self._kept, [], 0
        return kept


def _copied(rows: NDArray[np.float32] | Table) -> NDArray[np.float32] | Table:
    """Returns few rows without the many that they were part of."""
    return rows if isinstance(rows, Table) else rows.copy()


@dataclass(slots=True)
class TrafficCounts:
    """A version's requests by the bins of its profile, since this replica serves it. Used by one thread."""

    version: int
    rows: int = 0
    columns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    prediction: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, seen: Seen) -> None:
        """Counts a request of this version; nothing where its bundle has no profile."""
        profile = seen.bundle.profile
        if profile is None:
            return
        labels, scores = seen.prediction.labels[: len(seen.rows)], seen.prediction.scores[: len(seen.rows)]
        columns, prediction = profile.count(seen.rows), profile.count_predictions(labels, scores)
        if self.rows:
            columns, prediction = columns + self.columns, prediction + self.prediction
        self.rows, self.columns, self.prediction = self.rows + len(seen.rows), columns, prediction
        if self.rows >= FADING_ROWS:
            self.rows, self.columns, self.prediction = self.rows // 2, self.columns // 2, self.prediction // 2

"""Whether requests still look like the data that a model was trained on: column by column, and in its predictions.

Notation: b bins of a column; p their shares in training (taken from m rows), q those in n rows that were asked for.

- PSI, the population stability index: the sum of (q - p) ln(q / p). Below 0.1 nothing to speak of, from 0.25 on another
  population (the usual reading, from credit scoring).
- KS, the Kolmogorov-Smirnov distance at the bins' edges: the largest |Q - P| of the cumulated shares; numbers only.

A few rows differ from many by chance alone, and of many columns one always does. So a column has drifted only where
Pearson's chi-squared test of the two samples (b - 1 degrees of freedom) also says that chance gives such a difference
less than once in a thousand looks at all columns together (Bonferroni).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Distribution, Profile

MODERATE, MAJOR = 0.1, 0.25  # of PSI
FALSE_ALARM = 1e-3  # of a look at all columns of a model
LEAST_ROWS = 100
LEAST_SHARE = 1e-4  # an empty bin's: its logarithm has to be finite


class Verdict(StrEnum):
    """What is to be said of a column."""

    UNKNOWN = "unknown"  # too few rows so far
    STEADY = "steady"
    MODERATE = "moderate"
    DRIFTED = "drifted"


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """A column then and now: `p_value` of chance giving such a difference, `missing` the shares in [0, 1]."""

    name: str
    psi: float
    p_value: float
    ks: float | None
    missing_then: float
    missing_now: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Drift:
    """All columns, the worst first, and the predictions, over `rows` rows that were asked for."""

    rows: int
    columns: tuple[ColumnDrift, ...]
    prediction: ColumnDrift

    @property
    def drifted(self) -> tuple[str, ...]:
        """The names of what has drifted, `prediction` among them."""
        return tuple(one.name for one in (self.prediction, *self.columns) if one.verdict is Verdict.DRIFTED)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return asdict(self) | {"drifted": list(self.drifted)}


@dataclass(frozen=True, slots=True)
class Count:
    """What a replica counted of a version's requests: rows, and bins of columns and predictions (`TrafficCounts`)."""

    version: int
    rows: int
    columns: tuple[int, ...]
    prediction: tuple[int, ...]


class DriftBook:
    """The latest count of each replica. One writer, the endpoint actor; what died with it, replicas say again."""

    REPLICAS = 256  # whose counts are kept, those heard of last

    def __init__(self) -> None:
        self._counts: dict[str, Count] = {}

    def take(self, replica: str, count: Count) -> None:
        """Takes all that a replica counted."""
        counts = {name: one for name, one in self._counts.items() if name != replica}
        self._counts = dict(list(counts.items())[-self.REPLICAS + 1 :]) | {replica: count}

    def of(self, version: int, profile: Profile) -> Drift:
        """Returns the drift of a version's requests, those of replicas that died among them."""
        counts = [count for count in self._counts.values() if count.version == version]
        columns = np.zeros(sum(column.bins for column in profile.columns), dtype=np.int64)
        predictions = np.zeros(profile.prediction.bins, dtype=np.int64)
        for count in counts:
            columns, predictions = columns + np.asarray(count.columns), predictions + np.asarray(count.prediction)
        return drift_of(profile, sum(count.rows for count in counts), columns.tolist(), predictions.tolist())


def drift_of(profile: Profile, rows: int, counts: Sequence[int], predictions: Sequence[int]) -> Drift:
    """Returns how far requests are from a model's data.

    Args:
        profile: the model's.
        rows: how many rows were counted.
        counts: of each bin of each column, one after the other, as `Profile.count` gives them.
        predictions: of each bin of the predictions.
    """
    looks = len(profile.columns) + 1
    ends = np.cumsum([column.bins for column in profile.columns])[:-1]
    parts = np.split(np.asarray(counts, dtype=np.int64), ends)
    columns = [_compare(column, part, profile.rows, looks) for column, part in zip(profile.columns, parts, strict=True)]
    asked = _compare(profile.prediction, np.asarray(predictions, dtype=np.int64), profile.predicted_rows, looks)
    return Drift(rows, tuple(sorted(columns, key=lambda column: -column.psi)), asked)


def _compare(then: Distribution, counts: NDArray[np.int64], rows_then: int, looks: int) -> ColumnDrift:
    rows_now = int(counts.sum())
    p, q = np.asarray(then.shares), counts / max(1, rows_now)
    psi, p_value = _psi(p, q), _p_value(p, q, rows_then, rows_now)
    ks = None if then.is_category else float(np.abs(np.cumsum(q) - np.cumsum(p)).max())
    verdict = _verdict(psi, p_value < FALSE_ALARM / looks, rows_now)
    return ColumnDrift(then.name, psi, p_value, ks, float(p[-1]), float(q[-1]), verdict)


def _psi(p: NDArray[np.float64], q: NDArray[np.float64]) -> float:
    then, now = np.maximum(p, LEAST_SHARE), np.maximum(q, LEAST_SHARE)
    return float(((now - then) * np.log(now / then)).sum())


def _p_value(p: NDArray[np.float64], q: NDArray[np.float64], rows_then: int, rows_now: int) -> float:
    """Returns the chance of such a difference between two samples of one population (Pearson's test of homogeneity)."""
    pooled = (rows_then * p + rows_now * q) / max(1, rows_then + rows_now)
    there = pooled > 0
    if there.sum() < 2 or not rows_then or not rows_now:
        return 1.0
    statistic = float((((p - q)[there] ** 2) / pooled[there]).sum()) / (1 / rows_then + 1 / rows_now)
    return chi_squared_tail(statistic, int(there.sum()) - 1)


def chi_squared_tail(statistic: float, freedom: int) -> float:
    """Returns the probability that a chi-squared value exceeds the statistic (Wilson and Hilferty, 1931).

    Where that is small and there are few degrees of freedom it comes out too large, up to twice at one in a thousand.
    """
    spread = 2 / (9 * freedom)
    return 1.0 - NormalDist().cdf(((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread))


def _verdict(psi: float, is_no_chance: bool, rows: int) -> Verdict:
    if rows < LEAST_ROWS:
        return Verdict.UNKNOWN
    if psi < MODERATE or not is_no_chance:
        return Verdict.STEADY
    return Verdict.DRIFTED if psi >= MAJOR else Verdict.MODERATE

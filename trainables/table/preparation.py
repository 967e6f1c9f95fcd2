"""Fits a columns stage to training rows: what is filled in, which levels are rare, how numbers are scaled.

Nothing here looks at a target, and a step is fitted to the rows that it is given, and no others: each fold of a
cross-validation fits its own.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import CategoryStep, Column, ColumnKind, DateStep, Encoding, NumberStep, Table, TableEncoder
from deploy.bundle.columns import SCALED_LIMIT, date_parts
from deploy.bundle.table import Texts

# Of a category, each with a feature of its own: more of them make a one-hot matrix of a column of names.
MOST_LEVELS = 255
IQR_OF_NORMAL = 1.349  # a normal distribution's interquartile range, in standard deviations

Impute = Literal["median", "mean", "zero", "none"]
Scale = Literal["standard", "robust", "none"]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Preparation:
    """How columns are prepared; `impute` none leaves a missing number missing, for trees that know how."""

    impute: Impute = "median"
    indicator: bool = True  # a feature that says whether a number was missing, where some may be
    scale: Scale = "none"
    encoding: Encoding = Encoding.ONE_HOT
    min_count: int = 5  # training rows of a level; rarer ones are pooled


def fit_encoder(table: Table, preparation: Preparation) -> TableEncoder:
    """Returns the columns stage fitted to the rows of `table`, which are those to train on."""
    steps = [
        _fit_column(column, table.values[:, j], table.texts[j], preparation) for j, column in enumerate(table.columns)
    ]
    return TableEncoder(table.columns, tuple(steps))


def _fit_column(
    column: Column, values: NDArray[np.float32], texts: Texts, preparation: Preparation
) -> NumberStep | CategoryStep | DateStep:
    if column.kind is ColumnKind.CATEGORY:
        return _fit_category(column, values, texts, preparation)
    indicator = preparation.indicator and column.nullable
    known = values[~np.isnan(values)].astype(np.float64)
    if column.kind is ColumnKind.DATE:
        return _fit_date(column, known, indicator, preparation)
    fill = _fill(known, column.kind, preparation.impute)
    if column.kind is ColumnKind.BOOL:  # 0 and 1 are a scale of their own
        return NumberStep(column.name, fill, indicator)
    filled = known if fill is None else np.append(known, np.full(len(values) - len(known), fill))
    center, scale = _center_and_scale(filled, preparation.scale)
    return NumberStep(column.name, fill, indicator, center, scale, _limit(preparation.scale))


def _fit_category(column: Column, values: NDArray[np.float32], texts: Texts, preparation: Preparation) -> CategoryStep:
    counts = Counter(texts[code] for code in values[~np.isnan(values)].astype(np.int64).tolist())
    frequent = sorted(counts, key=lambda level: (-counts[level], level))
    levels = tuple(level for level in frequent if counts[level] >= preparation.min_count)[:MOST_LEVELS]
    total, kept = max(1, len(values)), sum(counts[level] for level in levels)
    others = counts.total() - kept
    missing = len(values) - counts.total()
    shares = (*(counts[level] / total for level in levels), others / total, missing / total)
    return CategoryStep(column.name, preparation.encoding, levels, shares)


def _fit_date(column: Column, known: Floats, indicator: bool, preparation: Preparation) -> DateStep:
    origin = float(known.max()) if len(known) else 0.0
    fill = None if preparation.impute == "none" else float(np.floor(np.median(known))) if len(known) else 0.0
    parts = date_parts(known if len(known) else np.zeros(1), origin)
    fits = [_center_and_scale(part, preparation.scale) for part in parts.T]
    centers, scales = zip(*fits, strict=True)
    return DateStep(column.name, origin, fill, indicator, centers, scales, _limit(preparation.scale))


def _fill(known: Floats, kind: ColumnKind, impute: Impute) -> float | None:
    if impute == "none":
        return None
    if impute == "zero" or not len(known):
        return 0.0
    if kind is ColumnKind.BOOL:
        return float(known.mean() > 0.5)
    return float(np.median(known) if impute == "median" else known.mean())


def _center_and_scale(values: Floats, scale: Scale) -> tuple[float, float]:
    """Returns what is taken off and what is divided by; a column that does not vary is only centred."""
    if scale == "none" or not len(values):
        return 0.0, 1.0
    if scale == "standard":
        center, spread = float(values.mean()), float(values.std())
    else:
        low, center, high = (float(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
        spread = (high - low) / IQR_OF_NORMAL or float(values.std())  # of a column that is nearly always the same
    smallest = 1e-7 * max(1.0, abs(center))  # below it a spread is float32's rounding
    return center, spread if spread > smallest else 1.0


def _limit(scale: Scale) -> float | None:
    return None if scale == "none" else SCALED_LIMIT

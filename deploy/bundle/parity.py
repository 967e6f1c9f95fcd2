"""Whether a bundle answers as the model that it was exported from: asked before it may be served.

Rows that people never send in a test are where exports go wrong: float32 flips a split threshold, a zero divides, a
large number overflows, a level was never seen. `odd_rows` and `odd_records` make such rows; the trained model answers
them, and so must the bundle.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from deploy.bundle.reading import Bundle, Rows
from deploy.bundle.schema import Schema
from deploy.bundle.table import Cell, Column, ColumnKind, RawRow, Table
from orchestrator.domain.errors import BundleError

LARGE = 1e4  # far outside any scaled column, far inside float32
TINY = 1e-6  # the rounding of a float32 near 1 is 6e-8
LARGEST = 3e38  # a float32 ends at 3.4e38
LEVELS_TRIED = 8
UNSEEN = ("", "a level that nobody has seen", "ж")
FAR_DATES = ("0001-01-01", "1900-02-28", "2000-02-29", "2999-12-31")


def check_parity(
    bundle: Bundle,
    rows: Rows,
    expected: NDArray[np.float32],
    tolerance: float = 1e-4,
) -> float:
    """Returns the largest difference between the bundle's answers and the trained model's.

    Args:
        bundle: the package that wants to be served.
        rows: n rows, as `Bundle.predict` takes them; a number that is not finite is answered too.
        expected: what the trained model gives for them: probabilities (n, k), or values (n,) or (n, t).
        tolerance: allowed difference, absolute for probabilities; for values relative where they exceed 1.

    Raises:
        BundleError: when a row differs by more, names the worst one.
    """
    scores = bundle.predict(rows).scores
    wanted = np.asarray(expected, dtype=np.float32)
    if wanted.ndim == 2 and wanted.shape[1] == 1 and scores.ndim == 1:
        wanted = wanted[:, 0]
    if scores.shape != wanted.shape:
        raise BundleError(f"The bundle {bundle.uri} gives {scores.shape}, its trained model {wanted.shape}.")
    differences = _differences(scores, wanted)
    worst = int(differences.argmax())
    if differences[worst] > tolerance:
        raise BundleError(
            f"The bundle {bundle.uri} does not answer as its trained model: row {worst} of {len(rows)} differs by "
            f"{differences[worst]:.3g}, allowed is {tolerance:g} (bundle {_show(scores[worst])}, "
            f"model {_show(wanted[worst])}). It must not be served; train or export it in another way."
        )
    return float(differences[worst])


def odd_rows(schema: Schema, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns rows that lie at, on and beyond the edges of `rows` (n, features): (m, features), all finite.

    All zeros; all columns at their minimum, maximum, median; just beside the edges; large of either sign; and one
    column large at a time for the first few.
    """
    given = np.asarray(rows, dtype=np.float32)
    if given.ndim != 2 or given.shape[1] != schema.features or len(given) == 0:
        raise BundleError(f"The rows have shape {given.shape}; give (n, {schema.features}) with n of 1 or more.")
    low, high, middle = given.min(axis=0), given.max(axis=0), np.median(given, axis=0)
    zeros = np.zeros(schema.features, dtype=np.float32)
    edges = [zeros, low, high, middle, low - TINY, high + TINY, 2 * high - low, 2 * low - high]
    large = [zeros + LARGE, zeros - LARGE]
    singles = [_with(middle, column, LARGE) for column in range(min(schema.features, 8))]
    return np.stack(edges + large + singles).astype(np.float32)


def odd_records(table: Table) -> Table:
    """Returns rows as nobody sends them in a test: each column of a usual row at its edges, beyond, unseen or missing.

    Each column in its turn, then all columns together: at their edges, unseen, and missing where they may be.
    """
    given = table.tolist()
    usual, width = given[0], len(table.columns)
    odd = [_odd_cells(column, [row[j] for row in given]) for j, column in enumerate(table.columns)]
    rows: list[RawRow] = [[*usual[:j], cell, *usual[j + 1 :]] for j in range(width) for cell in odd[j]]
    rows += [[cells[i % len(cells)] for cells in odd] for i in range(max(map(len, odd)))]
    return Table.of_rows(table.columns, rows)


def _odd_cells(column: Column, seen: Sequence[Cell]) -> list[Cell]:
    """Returns cells of a column that are unusual and allowed; what is missing comes last."""
    missing: list[Cell] = [None] if column.nullable else []
    if column.kind is ColumnKind.BOOL:
        return [True, False, *missing]
    if column.kind is ColumnKind.DATE:
        return [*FAR_DATES, *missing]
    if column.kind is ColumnKind.CATEGORY:
        return [*column.levels[:LEVELS_TRIED], *UNSEEN, *missing]
    numbers = [float(cell) for cell in seen if isinstance(cell, int | float)] or [0.0]
    low, high = min(numbers), max(numbers)
    edges = [0.0, low, high, low - TINY, high + TINY, 2 * high - low, 2 * low - high, LARGE, -LARGE]
    return [*edges, LARGEST, -LARGEST, *missing]


def _with(row: NDArray[np.float32], column: int, value: float) -> NDArray[np.float32]:
    changed = row.copy()
    changed[column] = value
    return changed


def _differences(scores: NDArray[np.float32], wanted: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the largest difference of each row (n,); NaN equals NaN, and differs infinitely from a number."""
    ours, theirs = scores.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(invalid="ignore"):
        apart = np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    apart = np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))
    flat: NDArray[np.float64] = apart.reshape(len(apart), -1).max(axis=1)
    return flat


def _show(row: NDArray[np.float32]) -> str:
    return np.array2string(np.atleast_1d(row), precision=4, threshold=6, edgeitems=3)

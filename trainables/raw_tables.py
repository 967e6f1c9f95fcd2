"""From an Arrow table to raw rows: what each column is, and its cells as numbers and codes."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from deploy.bundle import Column, ColumnKind, Table
from orchestrator.domain.errors import InvalidSpecification

LEVELS_SHOWN = 100  # of a category, in a schema: it is there to be read


def kind_of(name: str, column: pa.ChunkedArray) -> ColumnKind:
    """Returns what the cells of an Arrow column are; one that is empty throughout counts as numbers.

    Raises:
        InvalidSpecification: they are something that no row could hold, such as lists.
    """
    given = column.type
    if pa.types.is_boolean(given):
        return ColumnKind.BOOL
    if (
        pa.types.is_floating(given)
        or pa.types.is_integer(given)
        or pa.types.is_decimal(given)
        or pa.types.is_null(given)
    ):
        return ColumnKind.NUMBER
    if pa.types.is_date(given) or pa.types.is_timestamp(given):
        return ColumnKind.DATE
    if pa.types.is_dictionary(given):
        given = given.value_type
    if pa.types.is_string(given) or pa.types.is_large_string(given):
        return ColumnKind.CATEGORY
    raise InvalidSpecification(
        f"column '{name}' holds {column.type}; features are numbers, truth values, texts or dates: "
        "turn it into one of them, or leave it out"
    )


def floats(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """Returns numbers or truth values `(n_rows,)`; a missing one is NaN."""
    given: NDArray[np.float32] = column.cast(pa.float32(), safe=False).to_numpy().astype(np.float32)
    return given


def raw_table(table: pa.Table, names: tuple[str, ...], training: NDArray[np.int64]) -> Table:
    """Returns the columns `names` of all rows; the known levels of a category are those of the rows in `training`."""
    columns, values, texts = [], [], []
    for name in names:
        given = table.column(name)
        kind = kind_of(name, given)
        cells, levels = _cells(given, kind)
        seen = np.unique(cells[training][~np.isnan(cells[training])]).astype(np.int64) if levels else ()
        known = sorted(levels[code] for code in seen)[:LEVELS_SHOWN]
        columns.append(
            Column(name, kind, nullable=given.null_count > 0 or bool(np.isnan(cells).any()), levels=tuple(known))
        )
        values.append(cells)
        texts.append(levels)
    return Table(tuple(columns), np.stack(values, axis=1), tuple(texts))


def _cells(column: pa.ChunkedArray, kind: ColumnKind) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Returns a column's numbers `(n_rows,)`, and the texts that codes stand for."""
    if kind is ColumnKind.CATEGORY:
        encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
        return floats(pa.chunked_array([encoded.indices])), tuple(encoded.dictionary.to_pylist())
    if kind is ColumnKind.DATE:
        return floats(pc.cast(column, pa.date32(), safe=False).cast(pa.int32())), ()
    return floats(column), ()

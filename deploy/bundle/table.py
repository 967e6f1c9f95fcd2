"""Raw rows: what people and other programs send, as one matrix of numbers and the texts that its codes stand for.

Notation: n rows, f columns. A number is itself, rounded to float32 (as a model's inputs are); a truth value is 0 or 1;
a date is its days since 1970-01-01; a category is an index into the column's `texts`; what is missing is NaN.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.domain.errors import BundleError, did_you_mean

EPOCH = date(1970, 1, 1)
Cell = float | int | str | bool | None
Texts = tuple[str, ...]
RawRow = Mapping[str, Any] | Sequence[Any]


class ColumnKind(StrEnum):
    """What the cells of a column are."""

    NUMBER = "number"
    CATEGORY = "category"  # a text out of a few
    BOOL = "bool"
    DATE = "date"  # as ISO 8601 writes it; a time of day is left out


@dataclass(frozen=True, slots=True)
class Column:
    """A column of raw rows; `levels` are the categories seen in training, and others may come."""

    name: str
    kind: ColumnKind = ColumnKind.NUMBER
    nullable: bool = False
    levels: Texts = ()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        plain: dict[str, Any] = {"name": self.name, "kind": self.kind.value, "nullable": self.nullable}
        return {**plain, "levels": list(self.levels)} if self.kind is ColumnKind.CATEGORY else plain

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Column":
        """Returns the column that `to_dict` wrote."""
        levels = tuple(str(level) for level in given.get("levels", ()))
        return cls(str(given["name"]), ColumnKind(given["kind"]), bool(given["nullable"]), levels)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Raw rows (n, f); read-only, and cheap to send to another process.

    Example:
        >>> plan = Column("plan", ColumnKind.CATEGORY, nullable=True)
        >>> Table.of_rows((Column("age"), plan), [{"age": 3, "plan": "basic"}, [4, None]]).tolist()
        [[3.0, 'basic'], [4.0, None]]
    """

    columns: tuple[Column, ...]
    values: NDArray[np.float32]  # (n, f)
    texts: tuple[Texts, ...]  # of each column; empty where it is no category

    def __post_init__(self) -> None:
        """Refuses a matrix that the columns do not fit, and keeps the rest from being changed."""
        if self.values.ndim != 2 or self.values.shape[1] != len(self.columns) or len(self.texts) != len(self.columns):
            raise BundleError(
                f"A table of {len(self.columns)} columns cannot have values of shape {self.values.shape}."
            )
        view = np.ascontiguousarray(self.values, dtype=np.float32).view()
        view.flags.writeable = False
        object.__setattr__(self, "values", view)

    def __reduce__(self) -> tuple[type["Table"], tuple[Any, ...]]:
        return Table, (self.columns, self.values, self.texts)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, rows: slice | NDArray[Any]) -> "Table":
        return Table(self.columns, self.values[rows], self.texts)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return len(self.values), len(self.columns)

    @classmethod
    def of_rows(cls, columns: Sequence[Column], rows: Sequence[RawRow]) -> "Table":
        """Returns the table of records, or of lists of cells in the columns' order.

        Raises:
            BundleError: naming the row and the column that do not fit.
        """
        names = [column.name for column in columns]
        cells = [_cells_of(row, number, names) for number, row in enumerate(rows)]
        values = np.empty((len(cells), len(names)), dtype=np.float32)
        texts: list[Texts] = []
        for j, column in enumerate(columns):
            codes: dict[str, int] = {}
            read = _READERS[column.kind]
            for i, row in enumerate(cells):
                values[i, j] = _read_cell(read, row[j], i, column, codes)
            texts.append(tuple(codes))
        return cls(tuple(columns), values, tuple(texts))

    @classmethod
    def of_numbers(cls, columns: Sequence[Column], matrix: NDArray[Any]) -> "Table":
        """Returns the table of a matrix (n, f) of numbers and truth values, NaN where one is missing.

        Raises:
            BundleError: when a column is of another kind, or the shape does not fit.
        """
        other = next((c for c in columns if c.kind not in (ColumnKind.NUMBER, ColumnKind.BOOL)), None)
        if other is not None:
            raise BundleError(f"Column '{other.name}' takes a {other.kind}; give records, not a matrix of numbers.")
        return cls(tuple(columns), np.asarray(matrix, dtype=np.float32), ((),) * len(columns))

    def tolist(self) -> list[list[Cell]]:
        """Returns the rows as lists of plain cells, None where one is missing."""
        shown = [
            [_show(value, column.kind, texts) for value in self.values[:, j].tolist()]
            for j, (column, texts) in enumerate(zip(self.columns, self.texts, strict=True))
        ]
        return [list(row) for row in zip(*shown, strict=True)]

    def records(self) -> list[dict[str, Cell]]:
        """Returns the rows as records by column."""
        names = [column.name for column in self.columns]
        return [dict(zip(names, row, strict=True)) for row in self.tolist()]


def json_word(value: Any) -> str:
    """Returns the JSON word for what was given."""
    words = {dict: "an object", list: "a list", str: "a text", bool: "a truth value", int: "a number"}
    if value is None:
        return "nothing (null)"
    return "a number" if isinstance(value, float) and math.isfinite(value) else words.get(type(value), "a number")


def _cells_of(row: RawRow, number: int, names: Sequence[str]) -> Sequence[Any]:
    if isinstance(row, Mapping):
        if len(row) == len(names) and all(name in row for name in names):
            return [row[name] for name in names]
        raise _misfit(row, number, names)
    if isinstance(row, str) or not isinstance(row, Sequence):
        raise BundleError(f"Row {number} is {json_word(row)}; send a record of columns or a list of cells.")
    if len(row) != len(names):
        raise BundleError(f"Row {number} has {len(row)} cells; this model takes {len(names)}.")
    return row


def _misfit(row: Mapping[str, Any], number: int, names: Sequence[str]) -> BundleError:
    unknown = next((name for name in row if name not in names), None)
    if unknown is not None:
        shown = ", ".join(f"'{name}'" for name in names[:5]) + (" …" if len(names) > 5 else "")
        hint = did_you_mean(str(unknown), names) or f" Known are {shown}."
        return BundleError(f"Row {number} has the unknown column '{unknown}'.{hint}")
    missing = next(name for name in names if name not in row)
    return BundleError(f"Row {number} lacks the column '{missing}'. Send all {len(names)} columns, null for missing.")


class _Reader:
    """How the cells of a kind become numbers; `needs` says in an error what they should have been."""

    needs = "a number"

    def read(self, cell: Any, codes: dict[str, int]) -> float | None:
        """Returns the number of a cell, or None where it is of another kind."""
        is_number = isinstance(cell, int | float | np.integer | np.floating) and not isinstance(cell, bool)
        return float(np.float32(cell)) if is_number else None


class _CategoryReader(_Reader):
    needs = "a text"

    def read(self, cell: Any, codes: dict[str, int]) -> float | None:
        """Returns the code of a text, a new one where it was not seen before."""
        return codes.setdefault(str(cell), len(codes)) if isinstance(cell, str) else None


class _BoolReader(_Reader):
    needs = "true or false"

    def read(self, cell: Any, codes: dict[str, int]) -> float | None:
        """Returns 0 or 1."""
        return float(cell) if isinstance(cell, bool | np.bool_) else None


class _DateReader(_Reader):
    needs = "a date such as '2026-02-28'"

    def read(self, cell: Any, codes: dict[str, int]) -> float | None:
        """Returns days since 1970."""
        if isinstance(cell, str) and (len(cell) == 10 or cell[10:11] in ("T", " ")):
            try:
                cell = date.fromisoformat(cell[:10])
            except ValueError:
                return None
        return float(cell.toordinal() - EPOCH.toordinal()) if isinstance(cell, date) else None


_READERS: Mapping[ColumnKind, _Reader] = {
    ColumnKind.NUMBER: _Reader(),
    ColumnKind.CATEGORY: _CategoryReader(),
    ColumnKind.BOOL: _BoolReader(),
    ColumnKind.DATE: _DateReader(),
}


def _read_cell(reader: _Reader, cell: Any, row: int, column: Column, codes: dict[str, int]) -> float:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        if column.nullable:
            return math.nan
        raise BundleError(
            f"Row {row}, column '{column.name}': nothing (null) was given, {reader.needs} is needed: "
            "it was never missing in training."
        )
    with np.errstate(over="ignore"):
        value = _number_or_none(reader, cell, codes)
    if value is None:
        raise BundleError(f"Row {row}, column '{column.name}': {_given(cell)} was given, {reader.needs} is needed.")
    if not math.isfinite(value):
        raise BundleError(f"Row {row}, column '{column.name}': {cell!r} is no finite float32 number.")
    return value


def _number_or_none(reader: _Reader, cell: Any, codes: dict[str, int]) -> float | None:
    try:
        return reader.read(cell, codes)
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf


def _given(cell: Any) -> str:
    return f"{json_word(cell)} ({cell[:40]!r})" if isinstance(cell, str) else json_word(cell)


def _show(value: float, kind: ColumnKind, texts: Texts) -> Cell:
    if math.isnan(value):
        return None
    if kind is ColumnKind.CATEGORY:
        return texts[int(value)]
    if kind is ColumnKind.BOOL:
        return bool(value)
    if kind is ColumnKind.DATE:
        return (EPOCH + timedelta(days=int(value))).isoformat()
    return float(str(np.float32(value)))  # 35.62 as it was given, instead of 35.619998931884766

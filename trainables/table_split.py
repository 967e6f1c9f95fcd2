"""A mixed table in three parts: what a trial sees where not every column is a number.

It has the names of `trainables.split.Split`; the inputs of a part are a `Table` of raw cells instead of an array.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import ColumnKind, Kind, Label, Table
from orchestrator.domain.errors import InvalidTrainable
from trainables.split import Part, Split


@dataclass(frozen=True, slots=True, eq=False)
class TableSplit:
    """One table and the row numbers of its parts, which share no row; every array is read-only, also after a pickle.

    Targets are int64 class numbers `(n_rows,)` which index `classes`, or float32 values.
    """

    table: Table
    y: NDArray[Any]
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    classes: tuple[Label, ...]  # empty for regression
    kind: Kind
    sha256: str  # of the dataset, before it was split
    description: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        target_type = np.int64 if self.kind is Kind.CLASSIFICATION else np.float32
        for name, dtype in (("y", target_type), ("train", np.int64), ("validation", np.int64), ("test", np.int64)):
            view = np.ascontiguousarray(getattr(self, name), dtype=dtype).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def __reduce__(self) -> tuple[type["TableSplit"], tuple[Any, ...]]:
        """Goes through `__init__` again when unpickled, which makes the arrays read-only."""
        return TableSplit, tuple(getattr(self, field.name) for field in fields(self))

    def parts(self) -> Iterator[tuple[Part, Table, NDArray[Any]]]:
        """Yields name, inputs and targets of train, validation and test."""
        yield "train", self.train_x, self.train_y
        yield "validation", self.validation_x, self.validation_y
        yield "test", self.test_x, self.test_y

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The raw columns."""
        return tuple(column.name for column in self.table.columns)

    @property
    def n_features(self) -> int:
        """How many raw columns a row has."""
        return len(self.table.columns)

    @property
    def train_x(self) -> Table:
        """The rows to train on."""
        return self.table[self.train]

    @property
    def train_y(self) -> NDArray[Any]:
        """Their targets."""
        return _read_only(self.y[self.train])

    @property
    def validation_x(self) -> Table:
        """The rows to choose by."""
        return self.table[self.validation]

    @property
    def validation_y(self) -> NDArray[Any]:
        """Their targets."""
        return _read_only(self.y[self.validation])

    @property
    def test_x(self) -> Table:
        """The rows that nobody looks at until the end."""
        return self.table[self.test]

    @property
    def test_y(self) -> NDArray[Any]:
        """Their targets."""
        return _read_only(self.y[self.test])


def require_numbers(data: Split | TableSplit, whose: str) -> None:
    """Raises InvalidTrainable where a trainable that takes numbers is given a mixed table."""
    if isinstance(data, TableSplit):
        column = next(c for c in data.table.columns if c.kind in (ColumnKind.CATEGORY, ColumnKind.DATE))
        raise InvalidTrainable(
            f"{whose} takes numbers, and column '{column.name}' holds a {column.kind}; take "
            "trainables.table.families, which encodes mixed columns, or leave the column out"
        )


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    array.flags.writeable = False
    return array

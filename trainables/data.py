"""Data as a study names it: loaded once into an Arrow table, hashed, and split once.

dataset = load("sklearn:digits")
parts = split(dataset, test=0.2, validation=0.2, seed=0)
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deploy.bundle import ColumnKind, Kind, Label
from orchestrator.domain.errors import InvalidSpecification
from trainables.metrics import TRIVIAL_AUC, scores
from trainables.raw_tables import floats, kind_of, raw_table
from trainables.sources import Source, read_source
from trainables.split import Split, deal_rows
from trainables.table_split import TableSplit

MOST_INTEGER_CLASSES = 20  # a whole-numbered target with more distinct values than this is a quantity

__all__ = ["Dataset", "Split", "TableSplit", "baseline", "example_row", "load", "split"]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A table with a target, and what is known about it; `sha256` names its content."""

    source: str
    table: pa.Table
    target: str
    feature_names: tuple[str, ...]
    classes: tuple[Label, ...]  # sorted; empty for regression
    kind: Kind
    sha256: str
    description: str = ""
    licence: str = ""

    def inputs(self) -> NDArray[np.float32]:
        """Returns the features `(n_rows, n_features)`, where all are numbers; a missing value is NaN."""
        return np.stack([floats(self.table.column(name)) for name in self.feature_names], axis=1)

    @property
    def is_mixed(self) -> bool:
        """Whether a column holds texts or dates, which no array of numbers could."""
        kinds = {kind_of(name, self.table.column(name)) for name in self.feature_names}
        return not kinds <= {ColumnKind.NUMBER, ColumnKind.BOOL}

    def targets(self) -> NDArray[np.int64] | NDArray[np.float32]:
        """Returns class numbers, which index `classes`, or values: `(n_rows,)`."""
        if self.kind is Kind.REGRESSION:
            return floats(self.table.column(self.target))
        number = {label: i for i, label in enumerate(self.classes)}
        labels = self.table.column(self.target).to_pylist()
        return np.fromiter((number[label] for label in labels), dtype=np.int64, count=len(labels))


def load(source: str, *, target: str | None = None) -> Dataset:
    """Returns the dataset that `source` names.

    Args:
        source: `sklearn:digits` (or another of scikit-learn's built-in sets); a `.csv`, `.parquet`, `.arrow` or
            `.feather` file; or `module:function` where the function takes nothing and returns an Arrow or pandas table,
            or `(inputs, targets)`.
        target: the column to predict, where the source is a table.

    A target of text, truth values or few whole numbers makes it classification, any other number regression.

    Raises:
        InvalidSpecification: there is no such source, or it is not a table with a target.
    """
    read = read_source(source, target)
    kind, classes = _kind_of(read)
    names = tuple(name for name in read.table.column_names if name != read.target)
    if not names:
        raise InvalidSpecification(f"'{source}' has no column beside its target '{read.target}'")
    for name in names:
        kind_of(name, read.table.column(name))
    return Dataset(
        source, read.table, read.target, names, classes, kind, table_sha256(read.table), read.description, read.licence
    )


def split(dataset: Dataset, test: float = 0.2, validation: float = 0.2, seed: int = 0) -> Split | TableSplit:
    """Returns the dataset in three parts; `test` and `validation` are shares of all rows. Arrays, or a mixed table.

    Classes keep their proportions in each part. The same dataset, shares and seed give the same parts.

    Raises:
        InvalidSpecification: the shares leave nothing to train on.
    """
    y = dataset.targets()
    train, held, tested = deal_rows(y, dataset.kind, test, validation, seed)
    if dataset.is_mixed:
        return TableSplit(
            table=raw_table(dataset.table, dataset.feature_names, np.concatenate([train, held])),
            y=y,
            train=train,
            validation=held,
            test=tested,
            classes=dataset.classes,
            kind=dataset.kind,
            sha256=dataset.sha256,
            description=dataset.description,
            licence=dataset.licence,
        )
    x = dataset.inputs()
    return Split(
        train_x=x[train],
        train_y=y[train],
        validation_x=x[held],
        validation_y=y[held],
        test_x=x[tested],
        test_y=y[tested],
        feature_names=dataset.feature_names,
        classes=dataset.classes,
        kind=dataset.kind,
        sha256=dataset.sha256,
        description=dataset.description,
        licence=dataset.licence,
    )


def baseline(
    parts: Split | TableSplit, metric: str, part: Literal["validation", "test"] = "validation"
) -> float | None:
    """Returns what the trivial predictor scores: the training part's class shares, or its mean.

    Args:
        parts: the data.
        metric: as trainables report it, with or without its prefix: `val_accuracy`, `accuracy`, `auc`, `loss`, `rmse`,
            `r2`.
        part: where it is scored.

    Returns:
        The value, or None for a metric that only the user's own code knows.
    """
    y = parts.validation_y if part == "validation" else parts.test_y
    if parts.kind is Kind.CLASSIFICATION:
        shares = np.bincount(parts.train_y, minlength=len(parts.classes)) / len(parts.train_y)
        answers = np.tile(shares, (len(y), 1))
    else:
        answers = np.full(len(y), parts.train_y.mean())
    known = scores(parts.kind, answers, y)
    if parts.kind is Kind.CLASSIFICATION:
        known["auc"] = TRIVIAL_AUC
    return known.get(metric.removeprefix("val_").removeprefix("test_"))


def example_row(parts: Split | TableSplit, i: int = 0) -> dict[str, Any]:
    """Returns row `i` of the test part as a JSON record; whole numbers are ints, which read better."""
    cells = parts.test_x[i : i + 1].tolist()[0]
    return {
        name: int(cell) if isinstance(cell, float) and cell.is_integer() else cell
        for name, cell in zip(parts.feature_names, cells, strict=True)
    }


def table_sha256(table: pa.Table) -> str:
    """Returns a hash of names, types and values, the same in every process and however the table is chunked."""
    digest = sha256()
    for name, column in zip(table.column_names, table.columns, strict=True):
        digest.update(f"{name}\0{column.type}\0{len(column)}\0".encode())
        digest.update(np.packbits(column.is_null().to_numpy()).tobytes())
        digest.update(_content(column))
    return digest.hexdigest()


def _content(column: pa.ChunkedArray) -> bytes:
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        return bytes(column.fill_null(0).to_numpy().tobytes())
    texts = (text.encode() for text in column.cast(pa.string()).fill_null("").to_pylist())
    return b"".join(len(text).to_bytes(8, "little") + text for text in texts)


def _kind_of(read: Source) -> tuple[Kind, tuple[Label, ...]]:
    column = read.table.column(read.target)
    if column.null_count:
        raise InvalidSpecification(
            f"the target '{read.target}' has {column.null_count} missing values; leave out those rows"
        )
    if pa.types.is_floating(column.type):
        return Kind.REGRESSION, ()
    labels = sorted(set(column.to_pylist()))
    if pa.types.is_integer(column.type) and len(labels) > MOST_INTEGER_CLASSES:
        return Kind.REGRESSION, ()
    if len(labels) < 2:
        raise InvalidSpecification(f"the target '{read.target}' is always {labels}; give at least two classes")
    return Kind.CLASSIFICATION, tuple(labels)

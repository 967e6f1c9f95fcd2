"""What a model's data looked like, in few numbers: the shares of each column's bins, to compare requests with.

Notation: n rows, b bins of a column. A number's bins lie between deciles of the training rows, a category's are its
most frequent levels and all others; the last bin is for what is missing. Of the predictions the shares are those on
validation rows: on training rows a model is surer than it will ever be again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from deploy.bundle.schema import Kind, Label, Schema
from deploy.bundle.table import ColumnKind, Table
from orchestrator.domain.errors import BundleError

DECILES = np.linspace(0.1, 0.9, 9)
MOST_LEVELS = 20
MOST_COLUMNS = 1024  # of a row; further ones are not compared
MOST_ROWS = 20_000  # that shares are taken from: their error is below half a percent then
PREDICTION = "prediction"


@dataclass(frozen=True, slots=True)
class Distribution:
    """The shares of a column's bins.

    `edges` (b - 2,) ascending: bin i holds what is above edge i - 1 and not above edge i. For a category `levels`
    (b - 2,) are its bins, and one for all other levels follows. `shares` (b,) sum to 1; the last is of what is missing.
    """

    name: str
    edges: tuple[float, ...]
    levels: tuple[str, ...]
    shares: tuple[float, ...]
    is_category: bool = False

    @property
    def bins(self) -> int:
        """How many bins there are."""
        return len(self.shares)

    @classmethod
    def of_numbers(cls, name: str, values: NDArray[Any]) -> "Distribution":
        """Returns the distribution of values (n,), NaN where one is missing."""
        there = values[~np.isnan(values)]
        # `lower`: an edge is a value that was seen, so that a constant column has its value in the first bin alone
        edges = np.unique(np.quantile(there, DECILES, method="lower")) if len(there) else np.empty(0)
        empty = cls(name, tuple(edges.tolist()), (), (0.0,) * (len(edges) + 2))
        return empty._with_shares(empty.count(values))

    @classmethod
    def of_texts(cls, name: str, texts: Sequence[str | None]) -> "Distribution":
        """Returns the distribution of n texts, None where one is missing."""
        seen: dict[str, int] = {}
        for text in texts:
            if text is not None:
                seen[text] = seen.get(text, 0) + 1
        levels = tuple(sorted(seen, key=lambda level: (-seen[level], level))[:MOST_LEVELS])
        empty = cls(name, (), levels, (0.0,) * (len(levels) + 2), is_category=True)
        return empty._with_shares(empty.count_texts(texts))

    def count(self, values: NDArray[Any]) -> NDArray[np.int64]:
        """Returns how many of the values (n,) lie in each bin: (b,)."""
        missing = np.isnan(values)
        places = np.where(missing, self.bins - 1, np.searchsorted(np.asarray(self.edges), values, side="left"))
        return np.bincount(places, minlength=self.bins).astype(np.int64)

    def count_texts(self, texts: Sequence[str | None]) -> NDArray[np.int64]:
        """Returns how many of n texts lie in each bin: (b,)."""
        known = {level: place for place, level in enumerate(self.levels)}
        counts = np.zeros(self.bins, dtype=np.int64)
        for text in texts:
            counts[self.bins - 1 if text is None else known.get(text, self.bins - 2)] += 1
        return counts

    def _with_shares(self, counts: NDArray[np.int64]) -> "Distribution":
        shares = tuple((counts / max(1, counts.sum())).tolist())
        return Distribution(self.name, self.edges, self.levels, shares, self.is_category)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        bins = {"levels": list(self.levels)} if self.is_category else {"edges": list(self.edges)}
        return {"name": self.name, **bins, "shares": list(self.shares)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Distribution":
        """Returns the distribution that `to_dict` wrote."""
        return cls(
            str(given["name"]),
            tuple(float(edge) for edge in given.get("edges", ())),
            tuple(str(level) for level in given.get("levels", ())),
            tuple(float(share) for share in given["shares"]),
            "levels" in given,
        )


@dataclass(frozen=True, slots=True)
class Profile:
    """The distributions of a model's columns and of its predictions, and from how many rows each was taken."""

    rows: int
    columns: tuple[Distribution, ...]
    predicted_rows: int
    prediction: Distribution

    @classmethod
    def of(cls, schema: Schema, rows: NDArray[np.float32] | Table, scores: NDArray[Any]) -> "Profile":
        """Returns the profile of training rows (n, f) and of the model's scores on validation rows (m, k) or (m,)."""
        few = rows[:: max(1, len(rows) // MOST_ROWS)]
        if isinstance(few, Table):
            columns = [_of_cells(few, j) for j in range(min(len(few.columns), MOST_COLUMNS))]
        else:
            columns = [Distribution.of_numbers(name, few[:, j]) for j, name in enumerate(schema.columns[:MOST_COLUMNS])]
        return cls(len(few), tuple(columns), len(scores), _of_scores(schema, np.asarray(scores)))

    def count(self, rows: NDArray[np.float32] | Table) -> NDArray[np.int64]:
        """Returns how many of the rows (n, f) lie in each bin of each column, one after the other."""
        if isinstance(rows, Table):
            counts = [
                column.count_texts(_texts(rows, j)) if column.is_category else column.count(rows.values[:, j])
                for j, column in enumerate(self.columns)
            ]
        else:
            counts = [column.count(rows[:, j]) for j, column in enumerate(self.columns)]
        return np.concatenate(counts)

    def count_predictions(self, labels: Sequence[Label], scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """Returns how many of n predictions lie in each bin: labels, or where there are none the values."""
        if self.prediction.is_category:
            return self.prediction.count_texts([str(label) for label in labels])
        return self.prediction.count(_first(scores))

    def to_bytes(self) -> bytes:
        """Returns the content of the bundle's file."""
        return orjson.dumps(
            {
                "rows": self.rows,
                "columns": [column.to_dict() for column in self.columns],
                "predicted_rows": self.predicted_rows,
                "prediction": self.prediction.to_dict(),
            }
        )

    @classmethod
    def from_bytes(cls, content: bytes) -> "Profile":
        """Returns the profile that `to_bytes` wrote.

        Raises:
            BundleError: it cannot be read.
        """
        try:
            given = orjson.loads(content)
            columns = tuple(Distribution.from_dict(column) for column in given["columns"])
            prediction = Distribution.from_dict(given["prediction"])
            return cls(int(given["rows"]), columns, int(given["predicted_rows"]), prediction)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"The profile of the bundle cannot be read ({error!r}). Export again.") from error


def _of_cells(table: Table, j: int) -> Distribution:
    column = table.columns[j]
    if column.kind is ColumnKind.CATEGORY:
        return Distribution.of_texts(column.name, _texts(table, j))
    return Distribution.of_numbers(column.name, table.values[:, j])


def _texts(table: Table, j: int) -> list[str | None]:
    known = table.texts[j]
    return [None if code != code else known[int(code)] for code in table.values[:, j].tolist()]


def _of_scores(schema: Schema, scores: NDArray[Any]) -> Distribution:
    if schema.kind is Kind.REGRESSION:
        return Distribution.of_numbers(PREDICTION, _first(scores))
    return Distribution.of_texts(PREDICTION, [str(schema.labels[index]) for index in scores.argmax(axis=1).tolist()])


def _first(scores: NDArray[Any]) -> NDArray[Any]:
    """Returns the values of the first target (n,)."""
    return scores if scores.ndim == 1 else scores[:, 0]

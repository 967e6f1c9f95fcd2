"""What a model takes and gives: the part of a bundle that requests are checked against."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from deploy.bundle.table import Column
from orchestrator.domain.errors import BundleError

Label = int | float | str | bool


class Kind(StrEnum):
    """What is predicted: one of several classes, or numbers."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Gives(StrEnum):
    """What the model's last output is, and so what is left to do to it."""

    PROBABILITIES = "probabilities"  # (n, classes), rows sum to 1
    LOGITS = "logits"  # (n, classes), before the softmax
    VALUES = "values"  # (n,) or (n, targets)


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of a row in their order, and what an answer is made of.

    A row is `len(columns)` numbers of `dtype`; `labels[j]` is the class of column j of the probabilities. Where there
    is a `columns` stage, `raw` says what each cell of a raw row is, and is empty otherwise.

    Example:
        >>> Schema(columns=("width", "height"), kind=Kind.CLASSIFICATION, labels=("cat", "dog")).features
        2
    """

    columns: tuple[str, ...]
    kind: Kind
    labels: tuple[Label, ...] = ()
    dtype: str = "float32"
    input_name: str = "rows"
    raw: tuple[Column, ...] = ()

    def __post_init__(self) -> None:
        """Refuses a schema that no row or no answer could fit."""
        if not self.columns or len(set(self.columns)) != len(self.columns):
            raise BundleError(f"A schema needs column names that are all different; it was given {self.columns!r}.")
        if self.raw and tuple(column.name for column in self.raw) != self.columns:
            raise BundleError(f"The raw columns {[column.name for column in self.raw]} are not {self.columns!r}.")
        if self.dtype != "float32":
            raise BundleError(f"A schema of dtype {self.dtype!r} is not served; cast the rows to float32.")
        if self.kind is Kind.CLASSIFICATION and len(self.labels) < 2:
            raise BundleError(f"A classification needs two labels or more; it was given {self.labels!r}.")
        odd = next((label for label in self.labels if not isinstance(label, int | float | str)), None)
        if odd is not None:
            raise BundleError(
                f"The label {odd!r} is a {type(odd).__name__}; labels are plain numbers or texts (tolist)."
            )
        if self.kind is Kind.REGRESSION and self.labels:
            raise BundleError(f"A regression has no labels; it was given {self.labels!r}.")

    @property
    def features(self) -> int:
        """How many cells a row has."""
        return len(self.columns)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        raw = {"raw": [column.to_dict() for column in self.raw]} if self.raw else {}
        return {
            "columns": list(self.columns),
            "dtype": self.dtype,
            "shape": [-1, self.features],
            "input_name": self.input_name,
            "kind": self.kind.value,
            "labels": list(self.labels),
            **raw,
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Schema":
        """Returns the schema that `to_dict` wrote.

        Raises:
            BundleError: when it lacks a part or has one that is not known.
        """
        try:
            return cls(
                columns=tuple(str(name) for name in given["columns"]),
                kind=Kind(given["kind"]),
                labels=tuple(given.get("labels", ())),
                dtype=str(given.get("dtype", "float32")),
                input_name=str(given.get("input_name", "rows")),
                raw=tuple(Column.from_dict(column) for column in given.get("raw", ())),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"This schema cannot be read ({error!r}). Export the model again.") from error

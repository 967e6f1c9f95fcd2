"""The `columns` stage: table preprocessing written down as data, and the numpy that carries it out.

Training and serving run this same code, so that both see the same numbers. A step turns one raw column into one or
more features; `trainables.table` fits steps to training rows, JSON carries them.

Notation: n rows, w features of a step. Work is done in float64 and rounded once, to float32, at the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from deploy.bundle.table import Column, ColumnKind, Table, Texts
from orchestrator.domain.errors import BundleError

# So many scales from its centre a value says no more to a linear model, and sums of them stay exact enough in float32.
SCALED_LIMIT = 1000.0
Floats = NDArray[np.float64]


class Encoding(StrEnum):
    """What a category becomes."""

    ONE_HOT = "one_hot"  # a 0 or 1 for each level, for the other ones, and for missing
    ORDINAL = "ordinal"  # its place in the order of frequency
    FREQUENCY = "frequency"  # its share of the training rows


class Step(Protocol):
    """One raw column's way to its features."""

    @property
    def column(self) -> str:
        """The raw column's name."""

    @property
    def features(self) -> tuple[str, ...]:
        """What comes out, by name: w of them."""

    def apply(self, values: NDArray[np.float32], texts: Texts) -> Floats:
        """Returns the features (n, w) of a table's column (n,)."""


@dataclass(frozen=True, slots=True)
class NumberStep:
    """Fills what is missing, says so if wanted, and scales; `fill` None leaves it missing, for trees that know how."""

    column: str
    fill: float | None = None
    indicator: bool = False
    center: float = 0.0
    scale: float = 1.0
    limit: float | None = None  # of the scaled value, to both sides

    @property
    def features(self) -> tuple[str, ...]:
        """The number, and whether it was missing."""
        return (self.column, f"{self.column} is missing") if self.indicator else (self.column,)

    def apply(self, values: NDArray[np.float32], texts: Texts) -> Floats:
        """See `Step`."""
        filled, missing = _filled(values, self.fill)
        scaled = _scaled(filled[:, None], (self.center,), (self.scale,), self.limit)
        return np.hstack([scaled, missing[:, None]]) if self.indicator else scaled


@dataclass(frozen=True, slots=True)
class CategoryStep:
    """Encodes a text by its slot: one for each of `levels`, then one for all others, then one for missing.

    `levels` are those that were frequent enough, the most frequent first; rare ones and those never seen share the
    slot for others. `shares` are the slots' shares of the training rows.
    """

    column: str
    encoding: Encoding
    levels: Texts
    shares: tuple[float, ...]  # (len(levels) + 2)

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.levels) + 2:
            raise BundleError(
                f"Column '{self.column}' has {len(self.levels)} levels and {len(self.shares)} shares; "
                "there is one for each level, one for other levels, one for missing."
            )

    @property
    def features(self) -> tuple[str, ...]:
        """One for each slot, or the one number."""
        if self.encoding is not Encoding.ONE_HOT:
            return (self.column,)
        slots = [f"is {level!r}" for level in self.levels]
        return tuple(f"{self.column} {slot}" for slot in (*slots, "is another", "is missing"))

    def apply(self, values: NDArray[np.float32], texts: Texts) -> Floats:
        """See `Step`."""
        slots = self._slots(values, texts)
        if self.encoding is Encoding.ONE_HOT:
            return np.equal.outer(slots, np.arange(len(self.shares))).astype(np.float64)
        if self.encoding is Encoding.ORDINAL:
            return slots[:, None].astype(np.float64)
        return np.asarray(self.shares, dtype=np.float64)[slots][:, None]

    def _slots(self, values: NDArray[np.float32], texts: Texts) -> NDArray[np.int64]:
        """Returns each row's slot (n,); texts are looked up once each, not once a row."""
        place = {level: slot for slot, level in enumerate(self.levels)}
        other = len(self.levels)
        slot_of = np.array([*(place.get(text, other) for text in texts), other + 1], dtype=np.int64)
        codes = np.where(np.isnan(values), len(texts), values).astype(np.int64)
        slots: NDArray[np.int64] = slot_of[codes]
        return slots


DATE_PARTS = ("year", "month", "day", "weekday", "elapsed")


@dataclass(frozen=True, slots=True)
class DateStep:
    """Takes a date apart: year, month, day, weekday (Monday is 0) and the days since `origin`."""

    column: str
    origin: float  # days since 1970-01-01, as `fill`
    fill: float | None = None
    indicator: bool = False
    centers: tuple[float, ...] = (0.0,) * len(DATE_PARTS)
    scales: tuple[float, ...] = (1.0,) * len(DATE_PARTS)
    limit: float | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """The parts, and whether the date was missing."""
        parts = tuple(f"{self.column} {part}" for part in DATE_PARTS)
        return (*parts, f"{self.column} is missing") if self.indicator else parts

    def apply(self, values: NDArray[np.float32], texts: Texts) -> Floats:
        """See `Step`."""
        filled, missing = _filled(values, self.fill)
        parts = _scaled(date_parts(filled, self.origin), self.centers, self.scales, self.limit)
        return np.hstack([parts, missing[:, None]]) if self.indicator else parts


def date_parts(days: Floats, origin: float) -> Floats:
    """Returns the parts (n, 5) of days since 1970-01-01 (n,); all NaN for a NaN."""
    known = np.where(np.isnan(days), 0.0, days)
    dates = known.astype(np.int64).astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    parts = (
        dates.astype("datetime64[Y]").astype(np.int64) + 1970,
        months.astype(np.int64) % 12 + 1,
        (dates - months).astype(np.int64) + 1,
        (known.astype(np.int64) + 3) % 7,  # 1970-01-01 was a Thursday
        known - origin,
    )
    return np.where(np.isnan(days)[:, None], np.nan, np.column_stack(parts))


def _filled(values: NDArray[np.float32], fill: float | None) -> tuple[Floats, Floats]:
    """Returns the values with nothing missing that could be filled (n,), and 1 where something was missing (n,)."""
    given = values.astype(np.float64)
    missing = np.isnan(given)
    return (given if fill is None else np.where(missing, fill, given)), missing.astype(np.float64)


def _scaled(values: Floats, centers: Sequence[float], scales: Sequence[float], limit: float | None) -> Floats:
    scaled: Floats = (values - np.asarray(centers)) / np.asarray(scales)
    return scaled if limit is None else np.clip(scaled, -limit, limit)


_KINDS: Mapping[str, type[NumberStep] | type[CategoryStep] | type[DateStep]] = {
    "number": NumberStep,
    "category": CategoryStep,
    "date": DateStep,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_TAKES = {
    NumberStep: (ColumnKind.NUMBER, ColumnKind.BOOL),
    CategoryStep: (ColumnKind.CATEGORY,),
    DateStep: (ColumnKind.DATE,),
}


@dataclass(frozen=True, slots=True)
class TableEncoder:
    """All steps, in order: a table of `columns` in, a matrix of `features` out."""

    columns: tuple[Column, ...]
    steps: tuple[NumberStep | CategoryStep | DateStep, ...]

    def __post_init__(self) -> None:
        kinds = {column.name: column.kind for column in self.columns}
        if not self.steps:
            raise BundleError("A columns stage needs a step; it was given none.")
        for step in self.steps:
            if kinds.get(step.column) not in _TAKES[type(step)]:
                raise BundleError(
                    f"A {_NAMES[type(step)]} step cannot take column '{step.column}' ({kinds.get(step.column)})."
                )

    @property
    def features(self) -> tuple[str, ...]:
        """The names of what comes out."""
        return tuple(name for step in self.steps for name in step.features)

    def transform(self, table: Table) -> NDArray[np.float32]:
        """Returns the features (n, w) of raw rows.

        Raises:
            BundleError: when the table has other columns.
        """
        names = [column.name for column in table.columns]
        if names != [column.name for column in self.columns]:
            raise BundleError(f"The table has the columns {names}; this model takes {[c.name for c in self.columns]}.")
        place = {name: j for j, name in enumerate(names)}
        parts = [step.apply(table.values[:, j], table.texts[j]) for step in self.steps for j in (place[step.column],)]
        return np.ascontiguousarray(np.hstack(parts), dtype=np.float32)

    def to_bytes(self) -> bytes:
        """Returns the steps as JSON; the columns are the schema's."""
        steps = [{"kind": _NAMES[type(step)], **asdict(step)} for step in self.steps]
        return orjson.dumps({"steps": steps}, option=orjson.OPT_INDENT_2)

    @classmethod
    def from_bytes(cls, content: bytes, columns: Sequence[Column]) -> "TableEncoder":
        """Returns the stage that `to_bytes` wrote.

        Raises:
            BundleError: when it cannot be read, or has a step of a kind that this version does not know.
        """
        try:
            given = orjson.loads(content)["steps"]
            return cls(tuple(columns), tuple(_step_of(step) for step in given))
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(f"The columns stage cannot be read ({error!r}). Export the model again.") from error


def _step_of(given: Mapping[str, Any]) -> NumberStep | CategoryStep | DateStep:
    kind = _KINDS.get(given["kind"])
    if kind is None:
        raise BundleError(
            f"The columns stage has a step of kind {given['kind']!r}; this version knows {', '.join(_KINDS)}. "
            "Serve it with a newer version of this program."
        )
    arguments: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
    del arguments["kind"]
    if "encoding" in arguments:
        arguments["encoding"] = Encoding(arguments["encoding"])
    return kind(**arguments)

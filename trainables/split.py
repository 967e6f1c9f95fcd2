"""The arrays that a trial trains, validates and is tested on, and how rows are dealt to the three parts.

Rows are dealt with numpy's legacy generator, whose stream is frozen by NEP 19: the same seed gives the same parts
with every later release of numpy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Kind, Label
from orchestrator.domain.errors import InvalidSpecification

Part = Literal["train", "validation", "test"]


def _read_only(array: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """Returns a contiguous, read-only view; the caller's own array keeps its flags."""
    view = np.ascontiguousarray(array, dtype=dtype).view()
    view.flags.writeable = False
    return view


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """One dataset in three parts that share no row; every array is read-only, also after a pickle.

    Inputs are float32 `(n_rows, n_features)`; targets are int64 class numbers `(n_rows,)` which index `classes`, or
    float32 values. Pickled with protocol 5 the arrays travel out of band, so that Ray's object store shares them
    between processes without a copy.
    """

    train_x: NDArray[np.float32]
    train_y: NDArray[Any]
    validation_x: NDArray[np.float32]
    validation_y: NDArray[Any]
    test_x: NDArray[np.float32]
    test_y: NDArray[Any]
    feature_names: tuple[str, ...]
    classes: tuple[Label, ...]  # empty for regression
    kind: Kind
    sha256: str  # of the dataset, before it was split
    description: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        target_type = np.int64 if self.kind is Kind.CLASSIFICATION else np.float32
        for part, x, y in self.parts():
            if x.ndim != 2 or y.ndim != 1 or len(x) != len(y) or x.shape[1] != len(self.feature_names):
                raise InvalidSpecification(
                    f"the {part} part has inputs {x.shape} and targets {y.shape} for {len(self.feature_names)} "
                    "features; give (n_rows, n_features) and (n_rows,)"
                )
            object.__setattr__(self, f"{part}_x", _read_only(x, np.float32))
            object.__setattr__(self, f"{part}_y", _read_only(y, target_type))

    def __reduce__(self) -> tuple[type["Split"], tuple[Any, ...]]:
        """Goes through `__init__` again when unpickled, which makes the arrays read-only."""
        return Split, tuple(getattr(self, field.name) for field in fields(self))

    def parts(self) -> Iterator[tuple[Part, NDArray[np.float32], NDArray[Any]]]:
        """Yields name, inputs and targets of train, validation and test."""
        yield "train", self.train_x, self.train_y
        yield "validation", self.validation_x, self.validation_y
        yield "test", self.test_x, self.test_y

    @property
    def n_features(self) -> int:
        """How many numbers a row has."""
        return len(self.feature_names)


def deal_rows(
    y: NDArray[Any], kind: Kind, test: float, validation: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Returns the row numbers of train, validation and test, each sorted; together they are all rows, once each.

    Args:
        y: class numbers or values `(n_rows,)`; for classification each part gets each class in its proportion.
        kind: what `y` holds.
        test: the share of all rows that goes to the test part.
        validation: the share of all rows that goes to the validation part.
        seed: of the shuffle.

    Raises:
        InvalidSpecification: the shares leave nothing to train on, or a class has too few rows to be trained on.
    """
    _check_shares(test, validation)
    generator = np.random.RandomState(seed)
    groups = [generator.permutation(group) for group in _groups(y, kind)]
    sizes = np.array([len(group) for group in groups])
    n_test, n_validation = _quotas(sizes, test), _quotas(sizes, validation)
    _check_training_rows(groups, n_test + n_validation)
    cuts = [
        np.split(group, [first, first + second])
        for group, first, second in zip(groups, n_test, n_validation, strict=True)
    ]
    tested, held, train = (np.sort(np.concatenate(parts)) for parts in zip(*cuts, strict=True))
    return train, held, tested


def _groups(y: NDArray[Any], kind: Kind) -> list[NDArray[np.int64]]:
    if kind is Kind.REGRESSION:
        return [np.arange(len(y))]
    return [np.flatnonzero(y == number) for number in np.unique(y)]


def _check_training_rows(groups: Sequence[NDArray[np.int64]], held_out: NDArray[np.int64]) -> None:
    for group, n_held in zip(groups, held_out, strict=True):
        if n_held >= len(group):
            raise InvalidSpecification(
                f"a class has {len(group)} rows (row {group.min()} is one) and all of them would be held out; "
                "add rows, merge rare classes, or make `test` and `validation` smaller"
            )


def _check_shares(test: float, validation: float) -> None:
    if not (0 < test < 1 and 0 < validation < 1 and test + validation < 1):
        raise InvalidSpecification(
            f"test {test} and validation {validation} cannot be held out; each must be above 0 and their sum below 1"
        )


def _quotas(sizes: NDArray[np.int64], share: float) -> NDArray[np.int64]:
    """Returns how many rows of each group are held out, by the method of largest remainders."""
    exact = sizes * share
    quotas: NDArray[np.int64] = np.floor(exact).astype(np.int64)
    missing = round(float(exact.sum())) - int(quotas.sum())
    for group in np.argsort(-(exact - quotas), kind="stable")[:missing]:
        quotas[group] += 1
    return quotas

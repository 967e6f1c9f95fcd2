"""The model families for tables: what each can be tuned by, and how its columns are prepared.

Numbers are scaled for linear models and never before trees: rounding to float32 would move rows across a split.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from deploy.bundle import Encoding, Kind
from orchestrator.domain.errors import InvalidTrainable, did_you_mean
from trainables.table.preparation import Preparation

MOST_ITERATIONS = 2000  # of a linear model's solver; scaled columns need some dozens

Make = Callable[[Kind, Mapping[str, Any], int, int], Any]


@dataclass(frozen=True, slots=True)
class Family:
    """A family: `settings` are its parameters with the values of somebody who does not tune; so are `preparation`'s.

    `choices` are the values that a preparation may have.
    """

    make: Make
    settings: Mapping[str, Any]
    preparation: Mapping[str, Any]
    choices: Mapping[str, tuple[Any, ...]]

    @property
    def parameters(self) -> dict[str, Any]:
        """All parameters with their defaults."""
        return {**self.settings, **self.preparation}


@dataclass(frozen=True, slots=True)
class Plan:
    """A configuration, understood."""

    family: str
    settings: Mapping[str, Any]
    preparation: Preparation

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "Plan":
        """Returns the plan of a configuration; what it leaves out has the family's default.

        Raises:
            InvalidTrainable: an unknown family, a parameter that it does not have, or a value that it cannot take.
        """
        name = str(params.get("family", DEFAULT_FAMILY))
        family = FAMILIES.get(name)
        if family is None:
            raise InvalidTrainable(
                f"there is no family '{name}'; take one of {', '.join(FAMILIES)}.{did_you_mean(name, FAMILIES)}"
            )
        given = {key: value for key, value in params.items() if key != "family"}
        for key, value in given.items():
            _check(key, value, name, family)
        settings = {key: given.get(key, default) for key, default in family.settings.items()}
        chosen = {key: given.get(key, default) for key, default in family.preparation.items()}
        return cls(name, settings, _preparation(chosen))

    def make(self, kind: Kind, seed: int, threads: int) -> Any:
        """Returns the unfitted estimator."""
        return FAMILIES[self.family].make(kind, self.settings, seed, threads)


def _check(key: str, value: Any, name: str, family: Family) -> None:
    known = family.parameters
    if key not in known:
        raise InvalidTrainable(
            f"the family '{name}' has no parameter '{key}'; it has {', '.join(known)}.{did_you_mean(key, known)} "
            f"Give it a condition, such as when: {{family: …}}, or leave it out"
        )
    allowed = family.choices.get(key)
    if allowed is not None and value not in allowed:
        raise InvalidTrainable(f"{key} = {value!r} is not for the family '{name}'; take one of {allowed}")
    if key == "min_count" and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InvalidTrainable(f"min_count = {value!r} counts training rows; give a whole number of 1 or more")


def _preparation(chosen: Mapping[str, Any]) -> Preparation:
    return Preparation(
        impute=chosen["impute"],
        indicator=bool(chosen["indicator"]),
        scale=chosen.get("scale", "none"),
        encoding=Encoding(chosen["encode"]),
        min_count=int(chosen["min_count"]),
    )


def _make_linear(kind: Kind, settings: Mapping[str, Any], seed: int, threads: int) -> Any:
    models = importlib.import_module("sklearn.linear_model")
    if kind is Kind.REGRESSION:
        return models.Ridge(alpha=1.0 / settings["C"])
    return models.LogisticRegression(C=settings["C"], max_iter=MOST_ITERATIONS)


def _make_random_forest(kind: Kind, settings: Mapping[str, Any], seed: int, threads: int) -> Any:
    models = importlib.import_module("sklearn.ensemble")
    forest = models.RandomForestClassifier if kind is Kind.CLASSIFICATION else models.RandomForestRegressor
    return forest(**settings, random_state=seed, n_jobs=threads)


def _make_boosting(kind: Kind, settings: Mapping[str, Any], seed: int, threads: int) -> Any:
    models = importlib.import_module("sklearn.ensemble")
    is_classes = kind is Kind.CLASSIFICATION
    boosting = models.HistGradientBoostingClassifier if is_classes else models.HistGradientBoostingRegressor
    return boosting(**settings, early_stopping=False, random_state=seed)


_FILLED = ("median", "mean", "zero")
_ENCODINGS = tuple(encoding.value for encoding in Encoding)
_YES_NO = (True, False)

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {
        "hist_gradient_boosting": Family(
            _make_boosting,
            {
                "learning_rate": 0.1,
                "max_iter": 100,
                "max_leaf_nodes": 31,
                "min_samples_leaf": 20,
                "l2_regularization": 0.0,
                "max_features": 1.0,
            },
            {"impute": "none", "indicator": False, "encode": "ordinal", "min_count": 5},
            {"impute": ("none", *_FILLED), "indicator": _YES_NO, "encode": _ENCODINGS},
        ),
        "random_forest": Family(
            _make_random_forest,
            {"n_estimators": 100, "min_samples_leaf": 1, "max_features": "sqrt"},
            {"impute": "median", "indicator": False, "encode": "ordinal", "min_count": 5},
            {"impute": _FILLED, "indicator": _YES_NO, "encode": _ENCODINGS},
        ),
        "linear": Family(
            _make_linear,
            {"C": 1.0},
            {"impute": "median", "indicator": True, "scale": "standard", "encode": "one_hot", "min_count": 5},
            {
                "impute": _FILLED,
                "indicator": _YES_NO,
                "scale": ("standard", "robust"),
                "encode": ("one_hot", "frequency"),  # places in an order mean nothing to a sum
            },
        ),
    }
)
DEFAULT_FAMILY = "hist_gradient_boosting"

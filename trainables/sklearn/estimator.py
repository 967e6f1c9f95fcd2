"""A scikit-learn estimator as a trainable.

    Extra = estimator("sklearn.ensemble.ExtraTreesClassifier", fixed={"max_features": 0.5}, rounds="n_estimators")

`rounds` names the argument of which a step adds a slice, where an estimator can go on from what it has (`warm_start`);
"partial_fit" makes a step one pass over the rows. Without it the one step is the whole fit.
"""

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import joblib  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray
from sklearn.base import is_classifier
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from deploy.bundle import Kind, Lineage
from orchestrator.domain.errors import InvalidTrainable, did_you_mean
from trainables.contract import Context, Resource
from trainables.metrics import scores
from trainables.publish import publish
from trainables.sklearn.export import to_onnx
from trainables.split import Split
from trainables.table_split import require_numbers

PARTIAL_FIT = "partial_fit"


class SklearnTrainable:
    """What all estimators share; `estimator` makes the subclasses.

    Metrics are `val_loss` and `val_accuracy`, or for regression `val_loss`, `val_rmse` and `val_r2`.
    """

    defaults: ClassVar[Mapping[str, Any]] = {}
    resource: ClassVar[Resource] = "fit"
    paths: ClassVar[Mapping[Kind, str]] = {}
    fixed: ClassVar[Mapping[str, Any]] = {}
    rounds: ClassVar[str | None] = None
    rounds_per_step: ClassVar[int] = 1

    def build(self, params: Mapping[str, Any], data: Split, context: Context) -> None:
        """Makes the unfitted estimator; its randomness is the trial's."""
        require_numbers(data, type(self).__name__)
        if data.kind not in self.paths:
            raise InvalidTrainable(
                f"{type(self).__name__} is for {', '.join(self.paths)}, and the data is {data.kind}; take another "
                "trainable, or change the target"
            )
        self.data = data
        self.threads = context.threads
        self.pools = ThreadpoolController()
        kind = _load_estimator(self.paths[data.kind])
        self.model = kind(**self._arguments(kind, params, context))
        self.steps = 0

    def _arguments(self, kind: type, params: Mapping[str, Any], context: Context) -> dict[str, Any]:
        known = set(inspect.signature(kind).parameters)
        for name in params:
            if name not in known or name == self.rounds or name in self.fixed:
                raise InvalidTrainable(self._refusal(name, kind, known))
        ours: dict[str, Any] = {}
        if "random_state" in known:
            ours["random_state"] = self._random_state(context.seed)
        if {"n_jobs", "n_estimators"} <= known:  # elsewhere n_jobs means processes, or nothing and a warning
            ours["n_jobs"] = context.threads
        if self.rounds in known:
            ours["warm_start"] = True
        return {**ours, **self.fixed, **params}

    def _refusal(self, name: str, kind: type, known: set[str]) -> str:
        if name == self.rounds:
            return f"'{name}' is the resource of {type(self).__name__}: a step adds to it; leave it out of the space"
        if name in self.fixed:
            return f"'{name}' is fixed to {self.fixed[name]!r} in {type(self).__name__}; leave it out of the space"
        free = sorted(known - {*self.fixed, self.rounds or ""})
        return f"{kind.__name__} has no parameter '{name}'; it has {', '.join(free)}.{did_you_mean(name, free)}"

    def _random_state(self, seed: int) -> int | np.random.RandomState:
        """A pass over the rows must go on with the generator of the last: an int would shuffle alike each time."""
        return np.random.RandomState(seed) if self.rounds == PARTIAL_FIT else seed

    def step(self) -> Mapping[str, float]:
        """Fits the next slice of rounds, or everything, then answers the validation rows."""
        self.steps += 1
        with self.pools.limit(limits=self.threads):
            self._fit()
            answers = self.predict(self.data.validation_x)
        validated = scores(self.data.kind, answers, self.data.validation_y)
        return {f"val_{name}": value for name, value in validated.items()}

    def _fit(self) -> None:
        x, y = self.data.train_x, self.data.train_y
        if self.rounds == PARTIAL_FIT:
            classes = {"classes": np.arange(len(self.data.classes))} if is_classifier(self.model) else {}
            self.model.partial_fit(x, y, **(classes if self.steps == 1 else {}))
            return
        if self.rounds:
            self.model.set_params(**{self.rounds: self.steps * self.rounds_per_step})
        self.model.fit(x, y)

    def save(self, directory: Path) -> None:
        """Writes the estimator, with its generator's state, and the number of steps."""
        joblib.dump({"steps": self.steps, "model": self.model}, directory / "state.joblib")

    def load(self, directory: Path) -> None:
        """Reads what `save` wrote; unpickles, so only checkpoints of this study are given to it."""
        state = joblib.load(directory / "state.joblib")
        self.steps, self.model = state["steps"], state["model"]

    def predict(self, rows: NDArray[np.float32]) -> NDArray[Any]:
        """Returns class probabilities `(n_rows, n_classes)` or values `(n_rows,)`."""
        answer = self.model.predict_proba if self.data.kind is Kind.CLASSIFICATION else self.model.predict
        return np.asarray(answer(rows))

    def export(self, directory: Path, lineage: Lineage) -> None:
        """Writes the estimator as a bundle.

        Raises:
            BundleError: the estimator does not convert, or the bundle does not answer as it does.
        """
        publish(directory, to_onnx(self.model, self.data.n_features), self.data, self.predict, lineage)


def estimator(
    path: str,
    *,
    regressor: str | None = None,
    fixed: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
    rounds: str | None = None,
    rounds_per_step: int = 1,
    name: str | None = None,
) -> type[SklearnTrainable]:
    """Returns a trainable class around a scikit-learn estimator.

    Args:
        path: the estimator's dotted path: a classifier, or a regressor.
        regressor: of a classifier's sibling, so that the class serves both kinds of data.
        fixed: arguments that are not tuned.
        defaults: the configuration of somebody who does not tune.
        rounds: the argument that grows by `rounds_per_step` in each step, "partial_fit", or None for one whole fit.
        rounds_per_step: how many rounds a step adds.
        name: of the class, if not the estimator's.

    Raises:
        InvalidTrainable: there is no such estimator, or it cannot go on from what it has.

    Example:
        >>> ridge = estimator("sklearn.linear_model.Ridge", defaults={"alpha": 1.0})
        >>> ridge.resource
        'fit'
    """
    kinds = {_kind_of(each): each for each in (path, regressor) if each is not None}
    for each in kinds.values():
        _check_rounds(each, rounds)
    members = {
        "__doc__": f"scikit-learn's {' or '.join(kinds.values())}.",
        # where the call stands, so that the class is found, hashed and pickled as if it were written there
        "__module__": sys._getframe(1).f_globals["__name__"],
        "defaults": MappingProxyType(dict(defaults or {})),
        "resource": "rounds" if rounds else "fit",
        "paths": MappingProxyType(kinds),
        "fixed": MappingProxyType(dict(fixed or {})),
        "rounds": rounds,
        "rounds_per_step": rounds_per_step,
    }
    return type(name or path.rpartition(".")[2], (SklearnTrainable,), members)


def _load_estimator(path: str) -> type:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module or "builtins"), name)
    except (ImportError, AttributeError) as failure:
        raise InvalidTrainable(
            f"there is no estimator '{path}' ({failure}); give a dotted path as 'sklearn.ensemble.ExtraTreesClassifier'"
        ) from failure
    if not (isinstance(found, type) and hasattr(found, "fit") and hasattr(found, "predict")):
        raise InvalidTrainable(f"'{path}' is no estimator: it has no fit and predict; give a classifier or regressor")
    return found


def _kind_of(path: str) -> Kind:
    return Kind.CLASSIFICATION if is_classifier(_load_estimator(path)()) else Kind.REGRESSION


def _check_rounds(path: str, rounds: str | None) -> None:
    kind = _load_estimator(path)
    arguments = inspect.signature(kind).parameters
    if rounds is None or (rounds == PARTIAL_FIT and hasattr(kind, PARTIAL_FIT)):
        return
    if rounds == PARTIAL_FIT or rounds not in arguments or "warm_start" not in arguments:
        raise InvalidTrainable(
            f"{path} cannot be trained in rounds of '{rounds}'; name an argument of an estimator that has warm_start "
            "(n_estimators, max_iter), or 'partial_fit' if it has that, or leave `rounds` out for one whole fit"
        )

"""The measures that every trainable here reports in the same way, from numpy arrays and in one place.

Notation: `answers` is what `Trainable.predict` returns, `y` the true class numbers or values.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Kind

SMALLEST_PROBABILITY = 1e-12  # a certain but wrong answer would cost infinitely much: log(0)


def scores(kind: Kind, answers: NDArray[Any], y: NDArray[Any]) -> dict[str, float]:
    """Returns `accuracy` and `loss` (log loss), or `rmse`, `r2` and `loss` (mean squared error).

    Args:
        kind: what is predicted.
        answers: class probabilities `(n_rows, n_classes)`, or values `(n_rows,)`.
        y: class numbers or values `(n_rows,)`.
    """
    return _class_scores(answers, y) if kind is Kind.CLASSIFICATION else _value_scores(answers, y)


def _class_scores(probabilities: NDArray[Any], y: NDArray[Any]) -> dict[str, float]:
    given_to_truth = probabilities[np.arange(len(y)), y].astype(np.float64)
    return {
        "loss": float(-np.log(np.maximum(given_to_truth, SMALLEST_PROBABILITY)).mean()),
        "accuracy": float((probabilities.argmax(axis=1) == y).mean()),
    }


def _value_scores(values: NDArray[Any], y: NDArray[Any]) -> dict[str, float]:
    truth = y.astype(np.float64)
    squared_error = float(((values.astype(np.float64) - truth) ** 2).mean())
    variance = float(truth.var())
    return {
        "loss": squared_error,
        "rmse": squared_error**0.5,
        "r2": 1.0 - squared_error / variance if variance > 0 else 0.0,
    }

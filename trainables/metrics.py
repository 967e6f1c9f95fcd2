"""The measures that every trainable here reports in the same way, from numpy arrays and in one place.

Notation: `answers` is what `Trainable.predict` returns, `y` the true class numbers or values.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Kind

TRIVIAL_AUC = 0.5  # of answers that are the same for every row
SMALLEST_PROBABILITY = 1e-12  # a certain but wrong answer would cost infinitely much: log(0)


def scores(kind: Kind, answers: NDArray[Any], y: NDArray[Any]) -> dict[str, float]:
    """Returns `accuracy` and `loss` (log loss), or `rmse`, `r2` and `loss` (mean squared error).

    Args:
        kind: what is predicted.
        answers: class probabilities `(n_rows, n_classes)`, or values `(n_rows,)`.
        y: class numbers or values `(n_rows,)`.
    """
    return _class_scores(answers, y) if kind is Kind.CLASSIFICATION else _value_scores(answers, y)


def auc(probabilities: NDArray[Any], y: NDArray[Any]) -> float:
    """Returns the area under the ROC curve; with more than two classes its mean over each against the rest.

    Computed as the Mann-Whitney statistic, ties counting half (Hanley and McNeil, 1982). A class that no row, or every
    row, has is left out; where none is left the answer is that of chance.
    """
    k = probabilities.shape[1]
    numbers = range(1, 2) if k == 2 else range(k)
    areas = [_area(probabilities[:, number], y == number) for number in numbers]
    known = [area for area in areas if area is not None]
    return float(np.mean(known)) if known else TRIVIAL_AUC


def _area(answers: NDArray[Any], is_positive: NDArray[np.bool_]) -> float | None:
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if not positives or not negatives:
        return None
    _, group, counts = np.unique(answers, return_inverse=True, return_counts=True)
    middle_rank = np.cumsum(counts) - (counts - 1) / 2  # of a group of equal answers, from 1
    ranks = float(middle_rank[group][is_positive].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


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

"""Trainables around scikit-learn's estimators.

`estimator` makes a trainable of an estimator's dotted path. Ready-made, each in a module of its own that a study file
can name: `logistic_regression`, `random_forest`, `hist_gradient_boosting`, `mlp`.
"""

from trainables.sklearn.estimator import SklearnTrainable, estimator

__all__ = ["SklearnTrainable", "estimator"]

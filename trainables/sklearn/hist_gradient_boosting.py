"""Gradient boosting over binned features (Ke et al., 2017): one step is ten more rounds."""

from trainables.sklearn.estimator import estimator

HistGradientBoosting = estimator(
    "sklearn.ensemble.HistGradientBoostingClassifier",
    regressor="sklearn.ensemble.HistGradientBoostingRegressor",
    fixed={"early_stopping": False},  # stopping is the scheduler's
    defaults={"learning_rate": 0.1, "max_leaf_nodes": 31},
    rounds="max_iter",
    rounds_per_step=10,
    name="HistGradientBoosting",
)

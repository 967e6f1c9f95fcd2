"""A random forest (Breiman, 2001): one step is ten more trees."""

from trainables.sklearn.estimator import estimator

RandomForest = estimator(
    "sklearn.ensemble.RandomForestClassifier",
    regressor="sklearn.ensemble.RandomForestRegressor",
    defaults={"min_samples_leaf": 1},
    rounds="n_estimators",
    rounds_per_step=10,
    name="RandomForest",
)

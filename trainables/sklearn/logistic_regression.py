"""Logistic regression: one step is the whole fit."""

from trainables.sklearn.estimator import estimator

LogisticRegression = estimator("sklearn.linear_model.LogisticRegression", fixed={"max_iter": 1000}, defaults={"C": 1.0})

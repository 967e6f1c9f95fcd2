"""scikit-learn's multilayer perceptron: one step is one epoch. It takes rows as they are: scale them before."""

from trainables.sklearn.estimator import PARTIAL_FIT, estimator

SklearnMLP = estimator(
    "sklearn.neural_network.MLPClassifier",
    regressor="sklearn.neural_network.MLPRegressor",
    defaults={"hidden_layer_sizes": 100, "learning_rate_init": 1e-3, "alpha": 1e-4},
    rounds=PARTIAL_FIT,
    name="SklearnMLP",
)

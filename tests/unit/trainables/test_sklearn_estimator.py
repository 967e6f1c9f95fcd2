import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier

from deploy.bundle import Lineage
from orchestrator.domain.errors import BundleError, InvalidTrainable
from trainables.contract import Context, resource_of
from trainables.data import Split, load, split
from trainables.resolve import resolve_object
from trainables.sklearn import estimator
from trainables.sklearn.export import to_onnx
from trainables.sklearn.random_forest import RandomForest

Ridge = estimator("sklearn.linear_model.Ridge", defaults={"alpha": 1.0})


@pytest.fixture(scope="module")
def iris() -> Split:
    return split(load("sklearn:iris"))


def test_a_class_belongs_to_the_module_that_made_it() -> None:
    assert Ridge.__module__ == __name__
    assert pickle.loads(pickle.dumps(Ridge)) is Ridge
    assert resolve_object(Ridge).kind == "trainable"


def test_one_fit_is_said_to_be_one() -> None:
    assert resource_of(Ridge) == "fit"
    assert resource_of(RandomForest) == "rounds"


def test_slices_of_trees_are_the_forest_of_one_fit(iris: Split) -> None:
    model = RandomForest()
    model.build({}, iris, Context(5))
    for _ in range(3):
        model.step()
    whole = RandomForestClassifier(n_estimators=30, random_state=5).fit(iris.train_x, iris.train_y)
    assert np.allclose(model.predict(iris.test_x), whole.predict_proba(iris.test_x))


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_dept": 3}, "Did you mean 'max_depth'"),
        ({"n_estimators": 3}, "is the resource of RandomForest"),
    ],
)
def test_a_wrong_parameter_is_refused(iris: Split, params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidTrainable, match=message):
        RandomForest().build(params, iris, Context(0))


def test_a_fixed_parameter_is_not_tuned(iris: Split) -> None:
    fixed = estimator("sklearn.linear_model.LogisticRegression", fixed={"C": 2.0})
    with pytest.raises(InvalidTrainable, match=r"fixed to 2\.0"):
        fixed().build({"C": 1.0}, iris, Context(0))


def test_the_kind_of_data_must_fit(iris: Split) -> None:
    with pytest.raises(InvalidTrainable, match="is for regression, and the data is classification"):
        Ridge().build({}, iris, Context(0))


@pytest.mark.parametrize(
    ("path", "rounds", "message"),
    [
        ("sklearn.ensemble.NoSuchThing", None, "there is no estimator"),
        ("sklearn.preprocessing.StandardScaler", None, "no estimator: it has no fit and predict"),
        ("sklearn.linear_model.Ridge", "max_iter", "cannot be trained in rounds"),
        ("sklearn.ensemble.RandomForestClassifier", "partial_fit", "cannot be trained in rounds"),
    ],
)
def test_a_wrong_estimator_is_refused(path: str, rounds: str | None, message: str) -> None:
    with pytest.raises(InvalidTrainable, match=message):
        estimator(path, rounds=rounds)


def test_what_does_not_convert_is_refused_in_few_words(iris: Split, tmp_path: Path) -> None:
    unknown = estimator("sklearn.semi_supervised.LabelSpreading")
    model = unknown()
    model.build({}, iris, Context(0))
    model.step()
    with pytest.raises(BundleError, match="LabelSpreading does not convert") as caught:
        model.export(tmp_path / "bundle", Lineage(study="s", trial=0, step=1))
    assert len(str(caught.value)) < 600


def test_a_row_on_a_threshold_goes_the_same_way() -> None:
    """One validation row of diabetes lies between a threshold and the float32 nearest to it."""
    import onnxruntime

    parts = split(load("sklearn:diabetes"))
    model = HistGradientBoostingRegressor(max_iter=10, early_stopping=False).fit(parts.train_x, parts.train_y)
    session = onnxruntime.InferenceSession(to_onnx(model, parts.n_features), providers=["CPUExecutionProvider"])
    (values,) = session.run(None, {"rows": parts.validation_x})
    assert np.abs(values[:, 0] - model.predict(parts.validation_x)).max() < 1e-3


def test_missing_values_go_the_same_way(iris: Split) -> None:
    import onnxruntime

    x = iris.train_x.copy()
    x[::3, 1] = np.nan
    model = HistGradientBoostingRegressor(max_iter=10, early_stopping=False, min_samples_leaf=5).fit(x, iris.train_y)
    session = onnxruntime.InferenceSession(to_onnx(model, 4), providers=["CPUExecutionProvider"])
    (values,) = session.run(None, {"rows": x})
    assert np.abs(values[:, 0] - model.predict(x)).max() < 1e-5


def test_categorical_features_are_refused(iris: Split) -> None:
    x = iris.train_x.round()
    model = HistGradientBoostingRegressor(max_iter=2, categorical_features=[0]).fit(x, iris.train_y)
    with pytest.raises(BundleError, match="categorical"):
        to_onnx(model, 4)

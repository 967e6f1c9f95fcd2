"""The contract of a trainable, sentence by sentence, run against every one that comes with the program."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deploy.bundle import Bundle, Kind, Lineage, Table, check_parity, odd_records, odd_rows
from orchestrator.domain.errors import BundleError
from trainables.contract import Context, Trainable, resource_of
from trainables.data import Split, TableSplit, load, split
from trainables.resolve import resolve

CHURN = str(Path(__file__).parents[2] / "examples" / "churn" / "churn.csv")
LINEAGE = Lineage(study="contract", trial=7, step=3)
SGD = {"optimizer": "sgd", "momentum": 0.9, "lr": 0.05, "dropout": 0.3, "weight_decay": 1e-4, "batch_size": 32}
ADAMW = {"optimizer": "adamw", "layers": 3, "width": 24, "dropout": 0.1}


@dataclass(frozen=True)
class Case:
    reference: str
    source: str
    params: Mapping[str, Any] | None = None  # None: its defaults
    target: str | None = None

    def __str__(self) -> str:
        params = self.params or {}
        named = params.get("optimizer") or params.get("family")
        return f"{self.reference}-{Path(self.source).name}" + (f"-{named}" if named else "")

    def built(self, data: Split | TableSplit, seed: int = 3) -> Trainable:
        kind = resolve(f"trainables.{self.reference}").target
        model: Trainable = kind()
        model.build(kind.defaults if self.params is None else self.params, data, Context(seed))
        return model


SERVED = [
    Case("torch.mlp", "sklearn:digits"),
    Case("torch.mlp", "sklearn:digits", SGD),
    Case("torch.mlp", "sklearn:wine", ADAMW),
    Case("torch.mlp", "sklearn:diabetes"),
    Case("sklearn.logistic_regression", "sklearn:iris"),
    Case("sklearn.random_forest", "sklearn:digits"),
    Case("sklearn.random_forest", "sklearn:diabetes"),
    Case("sklearn.hist_gradient_boosting", "sklearn:breast_cancer"),
    Case("sklearn.hist_gradient_boosting", "sklearn:wine"),
    Case("sklearn.hist_gradient_boosting", "sklearn:diabetes"),
    Case("sklearn.mlp", "sklearn:digits"),
    Case("sklearn.mlp", "sklearn:diabetes"),
    Case("table.families", CHURN, {"family": "hist_gradient_boosting", "max_iter": 20}, "churn"),
    Case("table.families", CHURN, {"family": "random_forest", "n_estimators": 10}, "churn"),
    Case("table.families", CHURN, {"family": "linear", "scale": "robust"}, "churn"),
    Case("table.families", "sklearn:wine", {"family": "linear"}),
    Case("table.families", "sklearn:diabetes", {"family": "random_forest", "n_estimators": 10}),
    Case("table.families", "sklearn:diabetes", {"family": "linear"}),
    Case("table.families", "sklearn:diabetes", {"max_iter": 20}),
]
UNSERVED = [Case("testing.Quadratic", "sklearn:iris"), Case("testing.Trivial", "sklearn:iris")]
RANDOM = [
    case
    for case in SERVED
    if case.reference.rpartition(".")[2] in ("mlp", "random_forest") or "random_forest" in str(case)
]
every = pytest.mark.parametrize("case", SERVED + UNSERVED, ids=str)
served = pytest.mark.parametrize("case", SERVED, ids=str)
unserved = pytest.mark.parametrize("case", UNSERVED, ids=str)


@pytest.fixture(scope="module")
def parts() -> Callable[[Case], Split | TableSplit]:
    known: dict[str, Split | TableSplit] = {}

    def of(case: Case) -> Split | TableSplit:
        if case.source not in known:
            known[case.source] = split(load(case.source, target=case.target))
        return known[case.source]

    return of


def steps(model: Trainable, n: int = 3) -> list[dict[str, float]]:
    return [dict(model.step()) for _ in range(n)]


def arrays(data: Split | TableSplit) -> list[Any]:
    return [x.values if isinstance(x, Table) else x for _, *both in data.parts() for x in both]


@every
def test_it_is_a_trainable(case: Case, parts: Any) -> None:
    assert isinstance(case.built(parts(case)), Trainable)
    assert resource_of(resolve(f"trainables.{case.reference}").target) in ("rounds", "fit")


@every
def test_a_step_returns_finite_metrics_of_the_same_names(case: Case, parts: Any) -> None:
    reported = steps(case.built(parts(case)))
    assert all(reported[0].keys() == metrics.keys() for metrics in reported)
    assert all(type(value) is float and math.isfinite(value) for metrics in reported for value in metrics.values())


@every
def test_the_same_seed_gives_the_same_metrics(case: Case, parts: Any) -> None:
    first = steps(case.built(parts(case)))
    torch.manual_seed(99)
    np.random.seed(99)
    assert steps(case.built(parts(case))) == first


@every
def test_no_global_generator_is_drawn_from_or_seeded(case: Case, parts: Any) -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    steps(case.built(parts(case)), 2)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == numpy_state).all()


@pytest.mark.parametrize("case", RANDOM, ids=str)
def test_another_seed_gives_another_model(case: Case, parts: Any) -> None:
    assert steps(case.built(parts(case), seed=1)) != steps(case.built(parts(case), seed=2))


@every
def test_building_again_begins_again(case: Case, parts: Any) -> None:
    model = case.built(parts(case))
    first = steps(model)
    kind = type(model)
    model.build(kind.defaults if case.params is None else case.params, parts(case), Context(3))
    assert steps(model) == first


@every
def test_a_loaded_model_goes_on_as_if_nothing_had_happened(case: Case, parts: Any, tmp_path: Path) -> None:
    uninterrupted = case.built(parts(case))
    saved = case.built(parts(case))
    assert steps(uninterrupted) == steps(saved)
    saved.save(tmp_path)
    resumed = case.built(parts(case))
    resumed.load(tmp_path)
    rows = parts(case).test_x
    assert np.array_equal(resumed.predict(rows), saved.predict(rows))
    expected = steps(uninterrupted, 4)
    assert steps(resumed, 4) == expected
    assert steps(saved, 4) == expected, "saving must not change what comes after"


@every
def test_the_data_is_left_as_it_was(case: Case, parts: Any) -> None:
    before = [array.copy() for array in arrays(parts(case))]
    steps(case.built(parts(case)), 1)
    after = arrays(parts(case))
    assert all(np.array_equal(one, other, equal_nan=True) for one, other in zip(before, after, strict=True))


@served
def test_predict_gives_probabilities_or_values(case: Case, parts: Any) -> None:
    data, model = parts(case), case.built(parts(case))
    model.step()
    for rows in (data.test_x, data.test_x[:1]):
        answers = model.predict(rows)
        if data.kind is Kind.CLASSIFICATION:
            assert answers.shape == (len(rows), len(data.classes))
            assert np.allclose(answers.sum(axis=1), 1.0, atol=1e-5)
        else:
            assert answers.shape == (len(rows),)


@served
@pytest.mark.parametrize("exists", [True, False])
def test_a_bundle_answers_as_the_model_does(case: Case, parts: Any, tmp_path: Path, exists: bool) -> None:
    data, model = parts(case), case.built(parts(case))
    steps(model, 2)
    place = tmp_path / "bundle"
    if exists:
        place.mkdir()
    model.export(place, LINEAGE)
    bundle = Bundle.open(place)
    assert bundle.lineage.trial == LINEAGE.trial
    assert bundle.schema.columns == data.feature_names
    assert bundle.schema.labels == data.classes
    if isinstance(data, TableSplit):
        asked = [data.train_x, data.test_x, odd_records(data.train_x)]
    else:
        asked = [np.concatenate([data.train_x, data.test_x, odd_rows(bundle.schema, data.train_x)])]
    for rows in asked:
        assert check_parity(bundle, rows, model.predict(rows)) <= 1e-4
    rows = asked[0]
    if data.kind is Kind.CLASSIFICATION:
        expected = [data.classes[number] for number in model.predict(rows).argmax(axis=1)]
        assert np.mean([a == b for a, b in zip(bundle.predict(rows).labels, expected, strict=True)]) > 0.999
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


@served
def test_export_does_not_change_the_training(case: Case, parts: Any, tmp_path: Path) -> None:
    exported, other = case.built(parts(case)), case.built(parts(case))
    steps(exported, 1)
    steps(other, 1)
    exported.export(tmp_path / "bundle", LINEAGE)
    assert steps(exported, 2) == steps(other, 2)


@served
def test_a_bundle_that_answers_otherwise_is_refused(
    case: Case, parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = case.built(parts(case))
    model.step()
    honest = model.predict
    monkeypatch.setattr(model, "predict", lambda rows: honest(rows) + 0.5 * np.abs(honest(rows)) + 0.01)
    with pytest.raises(BundleError, match="differs"):
        model.export(tmp_path / "bundle", LINEAGE)
    assert list(tmp_path.iterdir()) == []


@served
def test_export_never_overwrites(case: Case, parts: Any, tmp_path: Path) -> None:
    model = case.built(parts(case))
    model.step()
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BundleError, match="no bundle in"):
        model.export(tmp_path, LINEAGE)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@served
def test_an_export_may_be_asked_for_twice(case: Case, parts: Any, tmp_path: Path) -> None:
    model = case.built(parts(case))
    model.step()
    model.export(tmp_path / "bundle", LINEAGE)
    digest = Bundle.open(tmp_path / "bundle").digest
    model.export(tmp_path / "bundle", LINEAGE)
    assert Bundle.open(tmp_path / "bundle").digest == digest
    with pytest.raises(BundleError, match="already holds"):
        model.export(tmp_path / "bundle", Lineage(study="other", trial=0, step=1))


@unserved
def test_what_has_no_model_says_so(case: Case, parts: Any, tmp_path: Path) -> None:
    model = case.built(parts(case))
    model.step()
    assert len(model.predict(parts(case).test_x)) == len(parts(case).test_x)
    with pytest.raises(BundleError, match="leave `serve` out"):
        model.export(tmp_path / "bundle", LINEAGE)

"""A mixed table from a file, through every family, to a bundle that answers raw rows as the model does."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deploy.bundle import Bundle, Column, ColumnKind, Kind, Lineage, Table
from orchestrator.api.study_file import read_study_file
from orchestrator.domain.errors import InvalidTrainable
from trainables.contract import Context
from trainables.data import load, split
from trainables.resolve import resolve
from trainables.table.estimators import FAMILIES, Plan
from trainables.table.families import FOLDS, Families
from trainables.table.folds import deal_folds
from trainables.table.preparation import Preparation, fit_encoder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = random.Random(0)
    lines = ["age,plan,note,left"]
    for _ in range(240):
        age, plan = rng.randint(18, 80), rng.choice(["basic", "plus", "pro"])
        left = "yes" if (age < 40) != (plan == "pro") else "no"
        shown = "" if rng.random() < 0.1 else str(age)
        lines.append(f"{shown},{plan if rng.random() > 0.1 else ''},{rng.choice(['a', 'b'])},{left}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_learns_goes_on_and_is_served_from_raw_rows(table: Path, tmp_path: Path, family: str) -> None:
    parts = split(load(str(table), target="left"))
    context = Context(seed=1)
    whole, resumed = Families(), Families()
    whole.build({"family": family}, parts, context)
    first = whole.step()
    (tmp_path / "saved").mkdir()
    whole.save(tmp_path / "saved")
    second = whole.step()
    resumed.build({"family": family}, parts, context)
    resumed.load(tmp_path / "saved")
    assert dict(resumed.step()) == dict(second), "a saved trial goes on as if nothing had happened"
    assert first["val_accuracy"] > 0.55

    target = tmp_path / "bundle"
    whole.export(target, Lineage("table", 0, 2))
    bundle = Bundle.open(target)
    answer = bundle.predict(parts.test_x)
    assert np.allclose(answer.scores, whole.predict(parts.test_x), atol=1e-4)


def built(parts, params, seed=1):
    model = Families()
    model.build(params, parts, Context(seed))
    return model


def test_a_step_is_a_fold_and_its_metrics_are_means_so_far(table: Path) -> None:
    model = built(split(load(str(table), target="left")), {"family": "linear"})
    reported = [dict(model.step()) for _ in range(FOLDS + 2)]
    each = [result["auc"] for result in model.results]
    assert len(each) == FOLDS
    for k in range(1, FOLDS + 1):
        assert reported[k - 1]["val_auc"] == pytest.approx(np.mean(each[:k]))
        error = np.std(each[:k], ddof=1) / np.sqrt(k) if k > 1 else 0.0
        assert reported[k - 1]["val_auc_se"] == pytest.approx(error)
    assert reported[FOLDS:] == [reported[FOLDS - 1]] * 2, "there is no fold after the last one"


def test_a_fold_that_is_done_is_not_fitted_again(table: Path, tmp_path: Path, monkeypatch) -> None:
    parts = split(load(str(table), target="left"))
    model = built(parts, {"family": "linear"})
    whole = [dict(model.step()) for _ in range(FOLDS)]
    model.results = model.results[:3]
    model.save(tmp_path)
    resumed = built(parts, {"family": "linear"})
    resumed.load(tmp_path)
    fits: list[int] = []
    fit = resumed._fit
    monkeypatch.setattr(resumed, "_fit", lambda rows, purpose: fits.append(purpose) or fit(rows, purpose))
    assert [dict(resumed.step()) for _ in range(2)] == whole[3:]
    assert fits == [4, 5]
    assert len(json.loads((tmp_path / "folds.json").read_text())) == 3


def test_a_fold_learns_nothing_from_the_rows_that_it_holds_out(table: Path, monkeypatch) -> None:
    parts = split(load(str(table), target="left"))
    model = built(parts, {"family": "linear", "min_count": 1})
    seen: list[np.ndarray] = []
    fit = model._fit
    monkeypatch.setattr(model, "_fit", lambda rows, purpose: seen.append(rows) or fit(rows, purpose))
    for _ in range(FOLDS):
        model.step()
    held_out = [np.setdiff1d(model.rows, rows) for rows in seen]
    assert np.array_equal(np.sort(np.concatenate(held_out)), model.rows), "each row is held out once"
    assert not set(model.rows) & set(parts.test), "no fold sees the test part"
    encoder = fit(seen[0], 1).encoder
    ages = parts.table.values[seen[0], 0].astype(np.float64)
    assert encoder.steps[0].fill == np.nanmedian(ages)


def test_numbers_are_never_scaled_before_trees() -> None:
    for name in ("hist_gradient_boosting", "random_forest"):
        assert Plan.of({"family": name}).preparation.scale == "none"
        with pytest.raises(InvalidTrainable, match=f"the family '{name}' has no parameter 'scale'"):
            Plan.of({"family": name, "scale": "standard"})
    assert Plan.of({"family": "linear"}).preparation.scale == "standard"


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"family": "linaer"}, "no family 'linaer'.* Did you mean 'linear'"),
        ({"family": "linear", "max_iter": 3}, "has no parameter 'max_iter'"),
        ({"learning_rat": 0.1}, "Did you mean 'learning_rate'"),
        ({"family": "linear", "encode": "ordinal"}, "encode = 'ordinal' is not for the family 'linear'"),
        ({"family": "random_forest", "impute": "none"}, "impute = 'none' is not for"),
        ({"min_count": 0}, "min_count = 0 counts training rows"),
    ],
)
def test_a_wrong_configuration_is_refused(params: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidTrainable, match=reason):
        Plan.of(params)


def test_a_trainable_for_numbers_refuses_texts_and_says_what_takes_them(table: Path) -> None:
    model = resolve("trainables.sklearn.random_forest").target()
    with pytest.raises(InvalidTrainable, match=r"column 'plan' holds a category; take trainables\.table\.families"):
        model.build({}, split(load(str(table), target="left")), Context(0))


@pytest.mark.parametrize("kind", list(Kind))
def test_folds_are_of_one_size_and_keep_proportions(kind: Kind) -> None:
    y = np.array([0] * 61 + [1] * 22)
    fold_of = deal_folds(y, kind, 5, 0)
    assert np.ptp(np.bincount(fold_of)) <= 1
    assert np.array_equal(fold_of, deal_folds(y, kind, 5, 0))
    if kind is Kind.CLASSIFICATION:
        assert np.ptp(np.bincount(fold_of[y == 1])) <= 1


def test_preparation_is_fitted_to_known_values_and_pools_rare_levels() -> None:
    columns = (
        Column("age", nullable=True),
        Column("flat", nullable=True),
        Column("plan", ColumnKind.CATEGORY, nullable=True),
        Column("paid", ColumnKind.BOOL, nullable=True),
        Column("since", ColumnKind.DATE, nullable=True),
    )
    rows = [[1, 7, "a", True, "2026-01-01"], [2, 7, "a", True, "2026-01-03"], [9, 7, "b", False, "2026-01-09"]]
    table = Table.of_rows(columns, [*rows, [None] * 5])
    preparation = Preparation(scale="standard", min_count=2)
    age, flat, plan, paid, since = fit_encoder(table, preparation).steps
    assert (age.fill, age.center, flat.scale) == (2.0, 3.5, 1.0)
    assert (plan.levels, plan.shares) == (("a",), (0.5, 0.25, 0.25))
    assert (paid.fill, paid.scale) == (1.0, 1.0)
    assert since.origin - since.fill == 6
    robust = fit_encoder(table, Preparation(scale="robust", impute="mean", indicator=False)).steps
    assert robust[0].fill == 4.0
    assert not robust[0].indicator
    empty = fit_encoder(table[3:], preparation)
    assert np.isfinite(empty.transform(table)).all(), "a column without a value is filled with 0"


def test_the_churn_example_has_what_it_says(tmp_path: Path) -> None:
    place = Path(__file__).parents[3] / "examples" / "churn"
    made = subprocess.run([sys.executable, "-c", MAKE, str(place), str(tmp_path)], check=True)
    assert made.returncode == 0
    assert (tmp_path / "churn.csv").read_bytes() == (place / "churn.csv").read_bytes()
    specification = read_study_file(place / "study.yaml")
    asked = specification.data
    parts = split(load(asked.source, target=asked.target), asked.test, asked.validation, asked.seed)
    regions = [{row["region"] for row in x.records()} for _, x, _ in parts.parts()]
    assert regions[2] - regions[0] - regions[1] == {"overseas"}
    assert "overseas" not in parts.table.columns[4].levels


MAKE = (
    "import sys, shutil; from pathlib import Path; place, other = map(Path, sys.argv[1:]);"
    "shutil.copy(place / 'make_churn.py', other); sys.path.insert(0, str(other)); import make_churn; make_churn.main()"
)

"""An endpoint of a model that takes raw rows: texts, nulls, and what it says when they do not fit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plans import COLUMNS, ENCODER, RECORD, Ask, asker, write

from deploy.bundle import Bundle, Kind, Schema, Table, check_parity, odd_records
from orchestrator.domain.errors import BundleError


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle.open(write(tmp_path / "bundle"))


@pytest.fixture
def ask(bundle: Bundle) -> Ask:
    return asker(bundle, "plans")


@pytest.mark.parametrize(
    ("row", "value"),
    [
        (RECORD, 1103),
        ([3, "pro", True], 1103),
        ({"paid": False, "plan": "basic", "age": None}, 10),
        ({**RECORD, "plan": "never seen"}, 1203),
        ({**RECORD, "plan": ""}, 1203),
    ],
)
def test_raw_rows_are_answered(ask: Ask, bundle: Bundle, row: Any, value: float) -> None:
    answer = ask("POST", "/predict", json={"rows": [row]})
    assert (answer.status_code, answer.json()["predictions"]) == (200, [value])
    assert bundle.predict([row]).scores.tolist() == [value]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"age": "3"}, "Row 1, column 'age': a text ('3') was given, a number is needed"),
        ({"plan": None}, "Row 1, column 'plan': nothing (null) was given, a text is needed: it was never missing"),
        ({"plan": 7}, "Row 1, column 'plan': a number was given, a text is needed"),
        ({"paid": 1}, "Row 1, column 'paid': a number was given, true or false is needed"),
        ({"aeg": 1}, "Row 1 has the unknown column 'aeg'. Did you mean 'age'?"),
    ],
)
def test_a_wrong_cell_is_named(ask: Ask, changed: dict[str, Any], reason: str) -> None:
    answer = ask("POST", "/predict", json=[RECORD, {**RECORD, **changed}])
    assert answer.status_code == 422
    assert reason in answer.json()["error"]


def tensors(**changed: Any) -> list[dict[str, Any]]:
    usual = {
        "plan": {"name": "plan", "shape": [2, 1], "datatype": "BYTES", "data": [["pro"], ["gold"]]},
        "age": {"name": "age", "shape": [2], "datatype": "INT64", "data": [3, None]},
        "paid": {"name": "paid", "shape": [2], "datatype": "BOOL", "data": [True, False]},
    }
    return [{**tensor, **changed.get(name, {})} for name, tensor in usual.items() if changed.get(name, {}) is not None]


def test_inference_takes_one_tensor_a_column(ask: Ask) -> None:
    answer = ask("POST", "/v2/models/plans/infer", json={"id": "a", "inputs": tensors()})
    assert answer.json()["outputs"] == [{"name": "predictions", "datatype": "FP32", "shape": [2], "data": [1103, 210]}]
    inputs = ask("GET", "/v2/models/plans").json()["inputs"]
    assert [(tensor["name"], tensor["datatype"]) for tensor in inputs] == [
        ("age", "FP32"),
        ("plan", "BYTES"),
        ("paid", "BOOL"),
    ]
    assert inputs[1]["parameters"] == {"kind": "category", "nullable": False, "levels": ["basic", "pro"]}


@pytest.mark.parametrize(
    ("inputs", "status", "reason"),
    [
        (tensors(age=None), 422, "no tensor 'age'"),
        (tensors(age={"datatype": "BYTES", "data": ["3", None]}), 422, "'age' has datatype 'BYTES'; send FP32"),
        (tensors(age={"datatype": "BOOL", "data": [True, None]}), 422, "'age' has datatype 'BOOL'; send FP32"),
        (tensors(age={"name": "rows"}), 422, "no column 'rows'"),
        (tensors(age={"name": "plan"}), 422, "same name"),
        (tensors(age={"shape": [3], "data": [1, 2, 3]}), 422, "2 and 3 rows"),
        (tensors(age={"data": [1]}), 422, "has 1 cells"),
        (tensors(age={"shape": [9]}), 413, "may have 8"),
        (tensors(age={"shape": "2"}), 422, "has shape '2'"),
        (tensors(age={"shape": [2, 2], "data": [1, 2, 3, 4]}), 422, "has shape [2, 2]; give [n]"),
        (tensors(age={"shape": [], "data": [1]}), 422, "has shape []; give [n]"),
        (tensors(age={"data": 3}), 422, "needs 'data'"),
        (tensors(paid={"data": [1, 0]}), 422, "'paid' of datatype BOOL has 1 where true or false is needed"),
        (tensors(plan={"data": ["pro", None]}), 422, "column 'plan': nothing (null) was given"),
        ("x", 422, "a list of objects"),
    ],
)
def test_a_wrong_tensor_is_named(ask: Ask, inputs: Any, status: int, reason: str) -> None:
    answer = ask("POST", "/v2/models/plans/infer", json={"inputs": inputs})
    assert (answer.status_code, reason in answer.json()["error"]) == (status, True)


def test_a_bundle_warms_up_on_raw_rows_and_describes_its_columns(bundle: Bundle, tmp_path: Path) -> None:
    bundle.warm_up()
    assert isinstance(bundle.sample, Table)
    assert bundle.sample.records()[0] == RECORD
    assert "| plan | category | no | basic, pro |" in (tmp_path / "bundle" / "card.md").read_text()
    assert {path.name for path in (tmp_path / "bundle").iterdir()} >= {"columns.json", "sample.json", "model.onnx"}


def test_odd_records_are_missing_unseen_and_extreme(bundle: Bundle) -> None:
    odd = odd_records(bundle.sample)
    ages, plans = ({row[j] for row in odd.tolist()} for j in (0, 1))
    assert {None, 0.0} < ages
    assert max(age for age in ages if age is not None) > 1e38
    assert "" in plans
    assert None not in plans, "what may not be missing is not asked for"
    encoded = ENCODER.transform(odd)
    assert check_parity(bundle, odd, encoded @ np.float32([1, 100, 1000])) <= 1e-4
    with pytest.raises(BundleError, match="differs"):
        check_parity(bundle, odd, encoded @ np.float32([1, 101, 1000]))


def test_what_does_not_fit_together_is_not_published(tmp_path: Path) -> None:
    numbers = np.ones((1, 3), np.float32)
    with pytest.raises(BundleError, match="takes a table as sample rows"):
        write(tmp_path / "b", sample_rows=numbers)
    with pytest.raises(BundleError, match="say different columns"):
        write(tmp_path / "b", schema=Schema(("age", "plan", "paid"), Kind.REGRESSION), sample_rows=numbers)
    with pytest.raises(BundleError, match="raw columns"):
        Schema(("age",), Kind.REGRESSION, raw=COLUMNS)


def test_a_model_of_numbers_takes_no_records(tmp_path: Path, make_bundle: Callable[..., Path]) -> None:
    with pytest.raises(BundleError, match="has no columns stage"):
        Bundle.open(make_bundle()).predict([RECORD])

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from deploy.bundle import Kind
from orchestrator.domain.errors import InvalidSpecification
from trainables.data import Split, baseline, example_row, load, split, table_sha256

ROOT = Path(__file__).parents[3]
SETS = ["digits", "iris", "wine", "breast_cancer", "diabetes"]


@pytest.fixture(scope="module")
def digits() -> Split:
    return split(load("sklearn:digits"))


def given(tmp_path: Path, body: str) -> str:
    file = tmp_path / "given.py"
    file.write_text(body)
    return f"{file}:make"


def test_digits_are_what_they_are() -> None:
    dataset = load("sklearn:digits")
    assert dataset.table.num_rows == 1797
    assert dataset.feature_names[:2] == ("pixel_0_0", "pixel_0_1")
    assert dataset.classes == tuple(range(10))
    assert dataset.kind is Kind.CLASSIFICATION
    assert dataset.description
    assert dataset.licence.startswith("CC BY 4.0")
    assert dataset.inputs().min() == 0
    assert dataset.inputs().max() == 16


@pytest.mark.parametrize("name", SETS)
def test_a_split_is_disjoint_and_complete(name: str) -> None:
    dataset = load(f"sklearn:{name}")
    parts = split(dataset)
    rows = np.concatenate([np.column_stack([x, y]) for _, x, y in parts.parts()])
    whole = np.column_stack([dataset.inputs(), dataset.targets()])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, whole.tolist()))


def test_classes_keep_their_proportions(digits: Split) -> None:
    shares = [np.bincount(y, minlength=10) / len(y) for _, _, y in digits.parts()]
    assert np.abs(shares[0] - shares[1]).max() < 0.005
    assert np.abs(shares[0] - shares[2]).max() < 0.005
    assert [len(y) for _, _, y in digits.parts()] == [1079, 359, 359]


def test_the_seed_alone_decides_the_parts() -> None:
    dataset = load("sklearn:iris")
    one, same, other = split(dataset, seed=1), split(dataset, seed=1), split(dataset, seed=2)
    assert np.array_equal(one.test_x, same.test_x)
    assert not np.array_equal(one.test_x, other.test_x)


def test_hash_and_split_are_the_same_in_every_process(digits: Split) -> None:
    script = (
        "from trainables.data import load, split; from hashlib import sha256;"
        "s = split(load('sklearn:digits')); print(s.sha256, sha256(s.test_x.tobytes()).hexdigest())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    printed = {
        subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    }
    assert len(printed) == 1
    assert printed.pop().split()[0] == digits.sha256


def test_the_hash_is_of_the_content_and_not_of_its_layout() -> None:
    whole = pa.table({"a": [1, 2, None, 4], "b": ["x", "y", "z", None]})
    chunked = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    assert table_sha256(chunked) == table_sha256(whole)
    changed = [
        pa.table({"a": [1, 2, 0, 4], "b": ["x", "y", "z", None]}),
        pa.table({"a": [1, 2, None, 4], "b": ["x", "y", "z", ""]}),
        pa.table({"a": [1, 2, None, 4], "c": ["x", "y", "z", None]}),
        pa.table({"a": [1.0, 2.0, None, 4.0], "b": ["x", "y", "z", None]}),
    ]
    assert len({table_sha256(table) for table in [whole, *changed]}) == 5


@pytest.mark.parametrize("protocol", [4, 5])
def test_arrays_are_read_only_also_after_a_pickle(digits: Split, protocol: int) -> None:
    for parts in (digits, pickle.loads(pickle.dumps(digits, protocol=protocol))):
        for _, x, y in parts.parts():
            assert x.dtype == np.float32
            assert y.dtype == np.int64
            for array in (x, y):
                with pytest.raises(ValueError, match="read-only"):
                    array[0] = 0
        assert parts.kind is Kind.CLASSIFICATION


def test_arrays_travel_without_a_copy(digits: Split) -> None:
    buffers: list[pickle.PickleBuffer] = []
    wire = pickle.dumps(digits, protocol=5, buffer_callback=buffers.append)
    assert len(wire) < 5_000
    back = pickle.loads(wire, buffers=buffers)
    assert np.shares_memory(back.train_x, digits.train_x)


def test_the_callers_array_stays_writeable() -> None:
    x, y = np.zeros((2, 1), np.float32), np.zeros(2, np.float32)
    Split(x, y, x, y, x, y, ("a",), (), Kind.REGRESSION, "")
    x[0] = 1.0


def test_baseline_is_the_trivial_predictors_value(digits: Split) -> None:
    assert baseline(digits, "val_accuracy") == pytest.approx(0.1, abs=0.01)
    assert baseline(digits, "accuracy", "test") == pytest.approx(0.1, abs=0.01)
    assert baseline(digits, "val_loss") == pytest.approx(np.log(10), abs=0.01)
    assert baseline(digits, "p99_ms") is None
    diabetes = split(load("sklearn:diabetes"))
    assert baseline(diabetes, "val_r2") == pytest.approx(0.0, abs=0.05)
    assert baseline(diabetes, "val_rmse") == pytest.approx(diabetes.validation_y.std(), rel=0.05)


def test_an_example_row_is_a_json_record(digits: Split) -> None:
    row = example_row(digits, 3)
    assert list(row) == list(digits.feature_names)
    assert list(row.values()) == digits.test_x[3].tolist()
    assert all(type(value) is int for value in row.values())


def test_a_function_gives_a_table(tmp_path: Path) -> None:
    table = "pa.table({'m2': [1, 2, 3, 4, 5, None], 'sold': list('ynynyn')})"
    body = f"import pyarrow as pa\ndef make():\n    'Six flats.'\n    return {table}\n"
    dataset = load(given(tmp_path, body), target="sold")
    assert dataset.feature_names == ("m2",)
    assert dataset.classes == ("n", "y")
    assert dataset.description == "Six flats."
    assert np.isnan(dataset.inputs()[5, 0])
    assert dataset.targets().tolist() == [1, 0, 1, 0, 1, 0]


def test_a_function_gives_inputs_and_targets(tmp_path: Path) -> None:
    dataset = load(given(tmp_path, "def make():\n    return [[1.0, 2.0], [3.0, 4.0]], [0.5, 0.7]\n"))
    assert dataset.feature_names == ("feature_0", "feature_1")
    assert dataset.kind is Kind.REGRESSION


def test_a_function_gives_a_pandas_table(tmp_path: Path) -> None:
    body = "import pandas as pd\ndef make():\n    return pd.DataFrame({'a': [1.0, 2.0], 'b': [True, False]})\n"
    assert load(given(tmp_path, body), target="b").classes == (False, True)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("sklearn:digit", None, "Did you mean 'digits'"),
        ("digits", None, "'module:function'"),
        ("no_such_module:make", None, "no module 'no_such_module'"),
    ],
)
def test_an_unknown_source_is_refused(source: str, target: str | None, message: str) -> None:
    with pytest.raises(InvalidSpecification, match=message):
        load(source, target=target)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("pa.table({'price': [1.0, 2.0]})", "Did you mean 'price'"),
        ("pa.table({'prices': [['a'], ['b']], 'pric': [1.0, 2.0]})", "holds list"),
        ("pa.table({'a': [1, 2], 'pric': ['x', None]})", "1 missing"),
        ("pa.table({'a': [1, 2], 'pric': ['x', 'x']})", "at least two classes"),
        ("([1, 2], [3, 4])", "are no table"),
        ("42", "returned int"),
    ],
)
def test_data_that_cannot_be_used_is_refused(tmp_path: Path, returned: str, message: str) -> None:
    body = f"import pyarrow as pa\ndef make():\n    return {returned}\n"
    with pytest.raises(InvalidSpecification, match=message):
        load(given(tmp_path, body), target="pric")


@pytest.mark.parametrize(("test", "validation"), [(0.0, 0.2), (0.5, 0.5), (-0.1, 0.2), (0.2, 1.0)])
def test_shares_that_leave_nothing_are_refused(test: float, validation: float) -> None:
    with pytest.raises(InvalidSpecification, match="held out"):
        split(load("sklearn:iris"), test=test, validation=validation)


def test_a_class_that_could_not_be_trained_on_is_refused(tmp_path: Path) -> None:
    body = "def make():\n    return [[float(i)] for i in range(7)], ['a'] * 6 + ['b']\n"
    with pytest.raises(InvalidSpecification, match="merge rare classes"):
        split(load(given(tmp_path, body)), test=0.45, validation=0.45)

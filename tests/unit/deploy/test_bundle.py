import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest

from deploy.bundle import (
    Bundle,
    Gives,
    Kind,
    Lineage,
    Schema,
    check_parity,
    constant_model,
    odd_rows,
    softmax,
    write_bundle,
)
from orchestrator.domain.errors import BundleError


def test_bundle_answers_and_knows_where_it_came_from(make_bundle):
    bundle = Bundle.open(make_bundle())
    prediction = bundle.predict(np.zeros((2, 3), dtype=np.float32))
    assert prediction.labels == ("dog", "dog")
    assert prediction.scores.tolist() == [[0.25, 0.75], [0.25, 0.75]]
    assert (bundle.lineage.study, bundle.lineage.trial, bundle.lineage.params) == ("digits", 12, {"lr": 0.1})
    bundle.warm_up()


def test_bundle_opens_by_uri_and_refuses_other_schemes(make_bundle):
    directory = make_bundle()
    assert Bundle.open(directory.as_uri()).digest == Bundle.open(directory).digest
    with pytest.raises(BundleError, match="s3://bucket/x cannot be opened"):
        Bundle.open("s3://bucket/x")


def test_missing_bundle_says_what_to_give(tmp_path):
    with pytest.raises(BundleError, match="There is no bundle in"):
        Bundle.open(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["model.onnx", "sample.npy", "card.md"])
def test_damaged_file_is_named(make_bundle, name):
    directory = make_bundle()
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"The file {name} .* edited or damaged"):
        Bundle.open(directory)


@pytest.mark.parametrize("name", ["model.onnx", "sample.npy", "card.md"])
def test_missing_file_is_named(make_bundle, name):
    directory = make_bundle()
    (directory / name).unlink()
    with pytest.raises(BundleError, match=f"lacks its file {name}"):
        Bundle.open(directory)


def test_extra_file_is_refused(make_bundle):
    directory = make_bundle()
    (directory / "more.py").write_text("print()")
    with pytest.raises(BundleError, match=r"does not name: more\.py"):
        Bundle.open(directory)


def test_edited_manifest_is_refused(make_bundle):
    directory = make_bundle()
    manifest = directory / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"trial": 12', b'"trial": 13'))
    with pytest.raises(BundleError, match=r"manifest .* was edited or damaged"):
        Bundle.open(directory)


def test_torn_manifest_is_refused(make_bundle):
    directory = make_bundle()
    manifest = directory / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:40])
    with pytest.raises(BundleError, match="is damaged"):
        Bundle.open(directory)


def test_newer_format_says_so(make_bundle):
    directory = make_bundle()
    manifest = directory / "manifest.json"
    manifest.write_bytes(orjson.dumps({**orjson.loads(manifest.read_bytes()), "format": 3}))
    with pytest.raises(BundleError, match=r"has format 3; this version reads formats up to 2\. Serve it with a newer"):
        Bundle.open(directory)


def test_model_that_is_no_model_is_refused(tmp_path):
    schema = Schema(("x",), Kind.REGRESSION)
    rows = np.ones((1, 1), dtype=np.float32)
    place = write_bundle(
        tmp_path / "b", onnx_model=b"nonsense", schema=schema, lineage=Lineage("s", 1, 1), sample_rows=rows
    )
    with pytest.raises(BundleError, match="cannot be loaded"):
        Bundle.open(place)


def test_export_asked_for_twice_leaves_the_first(make_bundle):
    directory = make_bundle()
    before = (directory / "manifest.json").read_bytes()
    assert make_bundle(scores=(0.5, 0.5)) == directory
    assert (directory / "manifest.json").read_bytes() == before


def test_bundle_of_another_trial_is_never_overwritten(make_bundle):
    make_bundle()
    with pytest.raises(BundleError, match="never overwritten"):
        make_bundle(trial=13)


def test_an_empty_directory_is_taken_for_the_bundle(make_bundle, tmp_path):
    (tmp_path / "bundles" / "1").mkdir(parents=True)
    assert Bundle.open(make_bundle()).lineage.trial == 12


def test_nothing_is_left_beside_a_published_bundle(make_bundle):
    assert [path.name for path in make_bundle().parent.iterdir()] == ["1"]


def test_failed_write_leaves_nothing(tmp_path: Path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deploy.bundle.writing.os.rename", full)
    schema, rows = Schema(("x",), Kind.REGRESSION), np.ones((1, 1), dtype=np.float32)
    with pytest.raises(BundleError, match="No space left"):
        write_bundle(tmp_path / "b", onnx_model=b"", schema=schema, lineage=Lineage("s", 1, 1), sample_rows=rows)
    assert list(tmp_path.iterdir()) == []


def test_logits_become_probabilities_without_overflow(tmp_path):
    schema = Schema(("x",), Kind.CLASSIFICATION, ("a", "b"))
    place = write_bundle(
        tmp_path / "b",
        onnx_model=constant_model(1, (1000.0, 990.0)),
        schema=schema,
        lineage=Lineage("s", 1, 1),
        sample_rows=np.ones((1, 1), dtype=np.float32),
        gives=Gives.LOGITS,
    )
    scores = Bundle.open(place).predict(np.zeros((1, 1), dtype=np.float32)).scores
    assert scores.sum() == pytest.approx(1.0)
    assert scores[0, 0] == pytest.approx(1 / (1 + np.exp(-10)), abs=1e-6)
    assert np.isfinite(softmax(np.array([[-1e30, 1e30]], dtype=np.float32))).all()


def test_regression_of_one_target_gives_one_number_a_row(tmp_path):
    schema = Schema(("x",), Kind.REGRESSION)
    rows = np.ones((3, 1), dtype=np.float32)
    place = write_bundle(
        tmp_path / "b",
        onnx_model=constant_model(1, (7.0,)),
        schema=schema,
        lineage=Lineage("s", 1, 1),
        sample_rows=rows,
    )
    prediction = Bundle.open(place).predict(rows)
    assert prediction.scores.tolist() == [7.0, 7.0, 7.0]
    assert prediction.labels == ()


def test_wrong_shape_is_refused(bundle):
    with pytest.raises(BundleError, match=r"shape \(1, 2\); this model takes \(n, 3\)"):
        bundle.predict(np.zeros((1, 2), dtype=np.float32))


def test_parity_holds_and_returns_the_largest_difference(bundle):
    rows = odd_rows(bundle.schema, bundle.sample)
    expected = np.tile(np.array([0.25, 0.75], dtype=np.float32), (len(rows), 1))
    assert check_parity(bundle, rows, expected) == 0.0


@pytest.mark.parametrize("wrong", [0.5, float("nan"), float("inf")])
def test_parity_names_the_worst_row(bundle, wrong):
    expected = np.tile(np.array([0.25, 0.75], dtype=np.float32), (5, 1))
    expected[3, 1] = wrong
    with pytest.raises(BundleError, match="row 3 of 5 differs"):
        check_parity(bundle, np.zeros((5, 3), dtype=np.float32), expected)


def test_parity_refuses_another_shape(bundle):
    with pytest.raises(BundleError, match=r"gives \(1, 2\), its trained model \(1, 3\)"):
        check_parity(bundle, np.zeros((1, 3), dtype=np.float32), np.zeros((1, 3), dtype=np.float32))


def test_odd_rows_reach_zero_the_edges_and_beyond(bundle):
    rows = np.array([[0, 1, 2], [4, 5, 6]], dtype=np.float32)
    odd = odd_rows(bundle.schema, rows)
    assert np.isfinite(odd).all()
    assert (odd == 0).all(axis=1).any()
    assert (odd == rows.min(axis=0)).all(axis=1).any()
    assert odd.max() >= 1e4
    assert odd.min() <= -1e4


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"columns": ()}, "column names"),
        ({"columns": ("x", "x")}, "all different"),
        ({"dtype": "float64"}, "cast the rows to float32"),
        ({"labels": ("a",)}, "two labels"),
        ({"labels": (np.int64(1), np.int64(2))}, "plain numbers"),
    ],
)
def test_schema_that_fits_nothing_cannot_be_made(given, reason):
    usual = {"columns": ("x",), "kind": Kind.CLASSIFICATION, "labels": ("a", "b")}
    with pytest.raises(BundleError, match=reason):
        Schema(**{**usual, **given})


def test_lineage_and_schema_survive_json(bundle):
    assert Lineage.from_dict(orjson.loads(orjson.dumps(bundle.lineage.to_dict()))) == bundle.lineage
    assert Schema.from_dict(orjson.loads(orjson.dumps(bundle.schema.to_dict()))) == bundle.schema
    with pytest.raises(BundleError, match="needs study, trial and step"):
        Lineage.from_dict({"study": "x"})


def test_lineage_alone_loads_nothing_heavy():
    code = "import sys; from deploy.bundle import Lineage; print([m for m in sys.modules if m in HEAVY])"
    heavy = "HEAVY = {'ray', 'torch', 'sklearn', 'onnx', 'onnxruntime', 'httpx', 'starlette'}\n"
    done = subprocess.run([sys.executable, "-c", heavy + code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

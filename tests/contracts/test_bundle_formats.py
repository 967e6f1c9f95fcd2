"""Published bundles stay readable: each format has a golden one, which today's program opens and writes alike."""

from pathlib import Path

import numpy as np
import orjson

from deploy.bundle import FORMAT_VERSION, Bundle, write_bundle
from deploy.bundle.manifest import read_manifest

GOLDEN = Path(__file__).parent / "golden"
PLANS = [{"age": 3, "plan": "pro", "paid": True}, {"age": None, "plan": "never seen", "paid": False}]


def test_every_format_has_a_golden_bundle():
    assert sorted(path.name for path in GOLDEN.glob("bundle_*")) == [f"bundle_{n + 1}" for n in range(FORMAT_VERSION)]
    for number in range(1, FORMAT_VERSION + 1):
        assert orjson.loads((GOLDEN / f"bundle_{number}" / "manifest.json").read_bytes())["format"] == number


def test_a_bundle_of_numbers_answers_as_it_did():
    bundle = Bundle.open(GOLDEN / "bundle_1")
    assert bundle.predict(np.zeros((1, 3), np.float32)).labels == ("dog",)
    assert (bundle.encoder, bundle.schema.raw) == (None, ())


def test_a_bundle_of_raw_rows_answers_as_it_did():
    assert Bundle.open(GOLDEN / "bundle_2").predict(PLANS).scores.tolist() == [1103.0, 210.0]


def test_bundles_are_written_as_they_were(tmp_path):
    numbers, raw = (Bundle.open(GOLDEN / f"bundle_{number}") for number in (1, 2))
    again = write_bundle(
        tmp_path / "1",
        onnx_model=(GOLDEN / "bundle_1" / "model.onnx").read_bytes(),
        schema=numbers.schema,
        lineage=numbers.lineage,
        sample_rows=numbers.sample,
    )
    assert read_manifest(again).to_bytes() == (GOLDEN / "bundle_1" / "manifest.json").read_bytes(), "bump the format"
    again = write_bundle(
        tmp_path / "2",
        onnx_model=(GOLDEN / "bundle_2" / "model.onnx").read_bytes(),
        schema=raw.schema,
        lineage=raw.lineage,
        sample_rows=raw.sample,
        encoder=raw.encoder,
    )
    assert read_manifest(again).to_bytes() == (GOLDEN / "bundle_2" / "manifest.json").read_bytes(), "bump the format"

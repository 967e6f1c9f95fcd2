"""Doors out: what other servers are given."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml

from deploy.bundle import Bundle, Kind, Lineage, Schema, constant_model, write_bundle
from deploy.exports import export_container, export_kserve, export_serve_config, export_triton
from deploy.standalone import application
from orchestrator.domain.errors import EndpointError

LABELS = ("cat", "dog")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    place = write_bundle(
        tmp_path / "bundle",
        onnx_model=constant_model(2, [0.25, 0.75]),
        schema=Schema(columns=("width", "height"), kind=Kind.CLASSIFICATION, labels=LABELS),
        lineage=Lineage("shapes", 7, 9),
        sample_rows=np.ones((2, 2), dtype=np.float32),
    )
    return Bundle.open(place)


def test_tritons_repository_holds_the_model_under_the_names_that_it_has(bundle: Bundle, tmp_path: Path) -> None:
    place = export_triton(bundle, "shapes", tmp_path / "repository", version=3)
    session = onnxruntime.InferenceSession(place / "shapes" / "3" / "model.onnx")
    text = (place / "shapes" / "config.pbtxt").read_text()
    takes, gives = re.findall(r'\n    name: "(\w+)"', text)
    assert session.run([gives], {takes: np.ones((1, 2), dtype=np.float32)})[0].tolist() == [[0.25, 0.75]]
    assert re.findall(r"dims: \[ (\d+) \]", text) == ["2", "2"]
    assert (place / "shapes" / "labels.txt").read_text() == "cat\ndog\n"


def test_triton_is_not_given_what_takes_raw_rows(bundle: Bundle, tmp_path: Path) -> None:
    from dataclasses import replace

    raw = replace(bundle, encoder=object())  # type: ignore[arg-type]
    with pytest.raises(EndpointError, match="takes raw rows"):
        export_triton(raw, "shapes", tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_kserve_takes_an_image_or_a_storage(bundle: Bundle, tmp_path: Path) -> None:
    place = export_kserve(bundle, "My_Shapes", tmp_path / "image", image="registry.example/shapes:1")
    service = yaml.safe_load((place / "inferenceservice.yaml").read_text())
    assert service["metadata"]["name"] == "my-shapes"
    assert service["spec"]["predictor"]["containers"][0]["image"] == "registry.example/shapes:1"
    assert (place / "container" / "Dockerfile").is_file()
    place = export_kserve(bundle, "shapes", tmp_path / "storage", uri="s3://models/shapes")
    service = yaml.safe_load((place / "inferenceservice.yaml").read_text())
    assert service["spec"]["predictor"]["model"]["storageUri"] == "s3://models/shapes"
    assert (place / "repository" / "shapes" / "1" / "model.onnx").is_file()
    for both in ({}, {"image": "a", "uri": "b"}):
        with pytest.raises(EndpointError, match="one of --image and --uri"):
            export_kserve(bundle, "shapes", tmp_path / "none", **both)


def test_rays_own_configuration_names_the_bundle_and_a_token_that_only_its_owner_reads(
    bundle: Bundle, tmp_path: Path
) -> None:
    place = export_serve_config(bundle, "shapes", tmp_path / "out", replicas=2)
    (application_,) = yaml.safe_load((place / "serve.yaml").read_text())["applications"]
    assert Bundle.open(application_["args"]["bundle"]).digest == bundle.digest
    assert stat.S_IMODE((place / "token").stat().st_mode) == 0o600
    assert application_["deployments"][0]["num_replicas"] == 2


def test_a_container_answers_with_the_modules_that_it_holds_and_without_ray(bundle: Bundle, tmp_path: Path) -> None:
    place = export_container(bundle, "shapes", tmp_path / "out", version=4)
    asked = (
        "import sys; from deploy.standalone import application; app = application();"
        "ours = [m.__file__ for n, m in sys.modules.items() if n.partition('.')[0] in ('deploy', 'orchestrator')];"
        "print(all(file.startswith(sys.argv[1]) for file in ours), len(ours) > 20,"
        " {'ray', 'torch', 'sklearn', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked, str(place)],
        cwd=place,
        env={"ENDPOINT_BUNDLE": "bundle", "ENDPOINT_TOKEN": "secret"},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["True", "True", "set()"]
    assert "ENDPOINT_VERSION=4" in (place / "Dockerfile").read_text()


def test_nothing_is_overwritten(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(EndpointError, match="not empty"):
        export_container(bundle, "shapes", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_a_missing_setting_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ENDPOINT_BUNDLE", "ENDPOINT_TOKEN", "ENDPOINT_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(EndpointError, match="lacks ENDPOINT_BUNDLE"):
        application()
    monkeypatch.setenv("ENDPOINT_BUNDLE", bundle.uri)
    with pytest.raises(EndpointError, match="lacks ENDPOINT_TOKEN"):
        application()
    monkeypatch.setenv("ENDPOINT_TOKEN_FILE", str(tmp_path / "none"))
    with pytest.raises(EndpointError, match="cannot be read"):
        application()

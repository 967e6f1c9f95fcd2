"""NVIDIA's client against running endpoints, over HTTP and gRPC; and the lines of docs/serving.md as they stand."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import EndpointAddress, stop_serve
from deploy.bundle import ColumnKind, Table

sys.path.insert(0, str(Path(__file__).parent))

from asked_endpoints import ROOT, Trained, serving, train_churn, train_digits

OWN = ROOT / ".venv" / "triton" / "bin" / "python"  # its protobuf is another one than Serve needs
MISSING = f"tritonclient is not installed: make test-system does it, into .venv/triton (in {ROOT})"
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not OWN.exists(), reason=MISSING),
    pytest.mark.usefixtures("ray_session"),
]


@pytest.fixture(scope="module")
def ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        for free in (one, other):
            free.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture(scope="module", params=[train_digits, train_churn], ids=["digits", "churn"])
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    made: Trained = request.param(tmp_path_factory.mktemp("bundles"))
    return made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the lines of the page are called: the storage is `runs`, the examples are there."""
    place = tmp_path_factory.mktemp("place")
    (place / "examples").symlink_to(ROOT / "examples")
    return place


@pytest.fixture(scope="module")
def address(ray_session: None, trained: Trained, place: Path, ports: tuple[int, int]) -> Iterator[EndpointAddress]:
    stop_serve()  # where another test left it, without gRPC
    with serving(trained, place / "runs", *ports) as address:
        yield address
    assert stop_serve()


def tensors_of(rows: Any) -> dict[str, Any]:
    """The tensors of some rows, as a client has to send them."""
    if not isinstance(rows, Table):
        return {"rows": {"datatype": "FP32", "data": rows.tolist()}}
    datatypes = {ColumnKind.NUMBER: "FP32", ColumnKind.BOOL: "BOOL"}
    named = {}
    for j, column in enumerate(rows.columns):
        cells = [row[j] for row in rows.tolist()]
        if column.kind is ColumnKind.NUMBER:
            cells = [float("nan") if cell is None else cell for cell in cells]
        named[column.name] = {"datatype": datatypes.get(column.kind, "BYTES"), "data": cells}
    return named


def without_missing_texts(rows: Any) -> list[int]:
    """Which rows have all their texts: the protocol has no word for one that is missing, outside of JSON."""
    if not isinstance(rows, Table):
        return list(range(len(rows)))
    texts = [j for j, column in enumerate(rows.columns) if column.kind in (ColumnKind.CATEGORY, ColumnKind.DATE)]
    return [i for i, row in enumerate(rows.tolist()) if all(row[j] is not None for j in texts)]


def whole(rows: Any) -> list[int]:
    """Which rows have all their cells."""
    if not isinstance(rows, Table):
        return list(range(len(rows)))
    return [i for i, row in enumerate(rows.tolist()) if None not in row]


def ask(address: EndpointAddress, trained: Trained, rows: Any, **metadata: str) -> dict[str, Any]:
    given = {
        "http": address.url.removeprefix("http://"),
        "grpc": address.grpc_target,
        "token": address.token,
        "metadata": metadata,
        "model": trained.name,
        "version": "1",
        "tensors": tensors_of(rows),
        "whole": whole(rows),
    }
    script = str(Path(__file__).with_name("ask_with_triton.py"))
    done = subprocess.run([str(OWN), script], input=json.dumps(given), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nvidias_client_is_answered_over_http_and_grpc(address: EndpointAddress, trained: Trained) -> None:
    kept = without_missing_texts(trained.rows)
    assert len(kept) >= 5
    rows = trained.rows[np.array(kept)]
    found = ask(address, trained, rows)
    schema = trained.bundle.schema
    answers = trained.bundle.predict(trained.rows).labels
    labels = [answers[i] for i in kept]
    for transport in ("http", "grpc"):
        said = found[transport]
        assert (said["live"], said["ready"], said["model_ready"], said["version_ready"]) == (True,) * 4
        assert said["server"] == "orchestrator"
        assert said["extensions"] == ["binary_tensor_data"]
        assert (said["metadata"]["name"], said["metadata"]["versions"]) == (trained.name, ["1"])
        assert [one["name"] for one in said["metadata"]["inputs"]] == list(schema.columns if schema.raw else ["rows"])
        assert [one["name"] for one in said["metadata"]["outputs"]] == ["predictions", "probabilities"]
        assert said["infer"]["id"] == "a request"
        for way in ("infer", "infer_of_version", "infer_one", "infer_async"):
            assert said[way]["version"] == "1"
            assert said[way]["outputs"]["predictions"] == labels, way
        assert said["infer_json"]["outputs"]["predictions"] == [labels[i] for i in whole(rows)]
        assert set(said["infer_one"]["outputs"]) == {"predictions"}
        scores = np.array(said["infer"]["outputs"]["probabilities"])
        assert np.allclose(scores, np.asarray(trained.expected)[kept], atol=1e-4)
    assert found["http"]["metadata"] == found["grpc"]["metadata"]


def test_what_nvidias_client_may_not_ask_is_refused_with_a_reason(address: EndpointAddress, trained: Trained) -> None:
    found = ask(address, trained, trained.rows[np.array(without_missing_texts(trained.rows)[:1])])
    assert found["http"]["other_ready"] is False
    assert "Version '999' does not answer here" in found["grpc"]["other_ready"]
    codes = {
        "token": ("401", "UNAUTHENTICATED", "a wrong token"),
        "model": ("404", "NOT_FOUND", "no model 'nobody'"),
        "version": ("404", "NOT_FOUND", "Version '999' does not answer here"),
        "output": ("422", "INVALID_ARGUMENT", "no output 'nothing'"),
        "tensors": ("422", "INVALID_ARGUMENT", "Give the input tensors"),
        "sequence": ("422", "INVALID_ARGUMENT", "'sequence_id'; this server has no such extension"),
    }
    if not trained.bundle.schema.raw:
        codes["rows"] = ("413", "INVALID_ARGUMENT", "5000 rows; a request may have 4096")
    for what, (status, code, reason) in codes.items():
        for transport, said in (("http", status), ("grpc", f"StatusCode.{code}")):
            refused = found[transport]["refused"][what]
            assert refused.startswith(said), (what, refused)
            assert reason in refused, (what, refused)
    assert "not taken compressed" in found["compressed"]


def lines_of_the_page(ports: tuple[int, int], name: str) -> list[tuple[str, str]]:
    """The page's blocks that are about an endpoint, with the ports at which it is here."""
    page = (ROOT / "docs" / "serving.md").read_text()
    blocks = re.findall(r"```(sh|python)\n(.*?)```", page, re.DOTALL)
    other = {"churn": "digits", "digits": "churn"}[name]
    ours = [(kind, text) for kind, text in blocks if other not in text]
    shell = "".join(text for kind, text in ours if kind == "sh")
    chosen = [("sh", shell)] if name == "churn" else []
    chosen += [block for block in ours if block[0] == "python"]
    return [
        (
            kind,
            text.replace("127.0.0.1:8000", f"127.0.0.1:{ports[0]}").replace("127.0.0.1:8001", f"127.0.0.1:{ports[1]}"),
        )
        for kind, text in chosen
    ]


def test_the_lines_of_the_page_work_as_they_stand(
    address: EndpointAddress, trained: Trained, place: Path, ports: tuple[int, int]
) -> None:
    blocks = lines_of_the_page(ports, trained.name)
    assert len(blocks) == {"churn": 3, "digits": 2}[trained.name]
    for kind, text in blocks:
        program = str(OWN) if "tritonclient" in text else sys.executable
        command = ["bash", "-euo", "pipefail", "-c", text] if kind == "sh" else [program, "-c", text]
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # as in an activated .venv
        environment = {**os.environ, "PATH": path, "PYTHONPATH": "" if program == str(OWN) else str(ROOT)}
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        if kind == "sh":
            assert done.stdout.count('"version":"1"') == 2
            assert "prediction,probability_no,probability_yes" in done.stdout
        else:
            assert re.search(r"\b1\b", done.stdout), done.stdout


def test_two_endpoints_are_told_apart_on_the_same_ports(
    address: EndpointAddress, trained: Trained, place: Path, ports: tuple[int, int], tmp_path: Path
) -> None:
    make = train_churn if trained.name == "digits" else train_digits
    second = make(tmp_path)
    with serving(second, tmp_path / "runs", *ports) as other:
        assert other.url == f"{address.url}/{second.name}"
        assert other.grpc_target == address.grpc_target
        for endpoint, model in ((address, trained), (other, second)):
            rows = model.rows[np.array(without_missing_texts(model.rows)[:3])]
            found = ask(endpoint, model, rows, application=model.name)
            labels = list(model.bundle.predict(rows).labels)
            for transport in ("http", "grpc"):
                assert found[transport]["infer"]["outputs"]["predictions"] == labels

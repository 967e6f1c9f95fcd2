"""An exported model where it goes to: a Python with nothing else in it, Ray's own `serve run`, Triton's own parser."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml

from deploy import Client
from deploy.bundle import (
    Bundle,
    Kind,
    Lineage,
    Schema,
    constant_model,
    write_bundle,
)
from deploy.exports import export_container, export_serve_config, export_triton
from orchestrator.domain.errors import EndpointError

ROOT = Path(__file__).parents[2]
TRITON = ROOT / ".venv" / "triton" / "bin" / "python"
WAIT_SECONDS = 120.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    place = write_bundle(
        tmp_path_factory.mktemp("bundle") / "1",
        onnx_model=constant_model(2, [0.25, 0.75]),
        schema=Schema(columns=("width", "height"), kind=Kind.CLASSIFICATION, labels=("cat", "dog")),
        lineage=Lineage("shapes", 7, 9),
        sample_rows=np.ones((2, 2), dtype=np.float32),
    )
    return Bundle.open(place)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(command: list[str], url: str, cwd: Path, environment: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=os.environ | environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + WAIT_SECONDS
        while not is_live(url):
            assert process.poll() is None, f"{command[0]} ended"
            assert time.monotonic() < deadline, f"{url} did not answer"
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def is_live(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v2/health/live", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def assert_answers(url: str, token: str) -> None:
    with Client(url, token) as client:
        answer = client.predict([[1.0, 2.0]])
        assert (answer.predictions, answer.version, answer.trial) == (("dog",), "4", 7)
    with Client(url, "wrong") as client, pytest.raises(EndpointError, match="401"):
        client.predict([[1.0, 2.0]])


def test_a_container_runs_in_a_python_that_has_its_requirements_alone(bundle: Bundle, tmp_path: Path) -> None:
    place = export_container(bundle, "shapes", tmp_path / "out", version=4)
    venv.create(tmp_path / "python", with_pip=True)
    binaries = tmp_path / "python" / "bin"
    install = [binaries / "pip", "install", "--quiet", "--requirement", place / "requirements.txt"]
    subprocess.run(install, check=True)
    port = free_port()
    command = ["uvicorn", "--factory", "deploy.standalone:application", "--port", str(port)]
    given = {"ENDPOINT_BUNDLE": "bundle", "ENDPOINT_VERSION": "4", "ENDPOINT_TOKEN": "secret", "PYTHONPATH": ""}
    with running([str(binaries / "uvicorn"), *command[1:]], f"http://127.0.0.1:{port}", place, given):
        assert_answers(f"http://127.0.0.1:{port}", "secret")
        arrow = urllib.request.Request(
            f"http://127.0.0.1:{port}/predict",
            b"ARROW1",
            {"authorization": "Bearer secret", "content-type": "application/vnd.apache.arrow.stream"},
        )
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(arrow)
        assert refused.value.code == 415, "there is no pyarrow, and it is said"


def test_rays_serve_run_starts_the_configuration(bundle: Bundle, tmp_path: Path) -> None:
    place = export_serve_config(bundle, "shapes", tmp_path / "out", version=4)
    configuration = yaml.safe_load((place / "serve.yaml").read_text())
    port = configuration["http_options"]["port"] = free_port()
    (place / "serve.yaml").write_text(yaml.safe_dump(configuration))
    serve = str(Path(sys.executable).with_name("serve"))
    with running([serve, "run", str(place / "serve.yaml")], f"http://127.0.0.1:{port}", ROOT, {}):
        assert_answers(f"http://127.0.0.1:{port}", (place / "token").read_text().strip())


def test_triton_reads_the_configuration(bundle: Bundle, tmp_path: Path) -> None:
    if not TRITON.exists():
        pytest.skip("tritonclient is not installed; as for all of the system's tests: tests/system/prepare.sh")
    place = export_triton(bundle, "shapes", tmp_path / "out", version=4)
    read = (
        "import sys; from google.protobuf import text_format; from tritonclient.grpc import model_config_pb2 as m;"
        "c = text_format.Parse(open(sys.argv[1]).read(), m.ModelConfig());"
        "print(c.name, c.backend, c.input[0].name, list(c.output[0].dims), c.output[0].label_filename)"
    )
    asked = [str(TRITON), "-c", read, str(place / "shapes" / "config.pbtxt")]
    said = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    assert said.split() == ["shapes", "onnxruntime", "rows", "[2]", "labels.txt"]

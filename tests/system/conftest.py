"""The servers that the system's tests run beside."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.journal import Storage

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit" / "journal"))  # the journals' actors play here too

from store_proxy import StoreProxy  # noqa: E402

OWN = ROOT / ".venv" / "moto" / "bin" / "python"  # botocore and our pins do not agree on python-dateutil
MISSING = f"moto is not installed: python3 -m venv .venv/moto && .venv/moto/bin/pip install 'moto[server]' (in {ROOT})"
START_SECONDS = 60


def moto_python() -> str | None:
    """Returns a Python that has moto."""
    if importlib.util.find_spec("moto") is not None:
        return sys.executable
    return str(OWN) if OWN.exists() else None


@pytest.fixture(scope="session")
def moto() -> Iterator[int]:
    """An S3 server on this host; yields its port."""
    python = moto_python()
    if python is None:
        pytest.skip(MISSING)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(port, server)
            yield port
        finally:
            server.kill()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert server.poll() is None, "moto ended"
            assert time.monotonic() < deadline, "moto does not answer"
            time.sleep(0.1)


@pytest.fixture
def bucket(moto: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket; the environment leads to it."""
    name = f"b{uuid.uuid4().hex[:12]}"
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{moto}/{name}", method="PUT")).close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{moto}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name_of_profile in ("AWS_PROFILE", "AWS_SESSION_TOKEN"):
        os.environ.pop(name_of_profile, None)
    return name


@pytest.fixture
def proxy(moto: int, bucket: str) -> Iterator[StoreProxy]:
    """What stands between us and the server: counts, delays and refuses requests."""
    with StoreProxy(moto) as between:
        yield between


@pytest.fixture
def storage(bucket: str) -> Storage:
    """An empty place in the bucket."""
    return Storage.of(f"s3://{bucket}/runs")

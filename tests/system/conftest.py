"""The servers that the system's tests run beside."""

import os
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.journal import Storage

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "unit" / "journal"))  # the journals' actors play here too

from store_proxy import StoreProxy  # noqa: E402
from store_server import moto_python, start_moto  # noqa: E402

MISSING = "moto is not installed; as for all of the system's tests: tests/system/prepare.sh"


@pytest.fixture(scope="session")
def moto() -> Iterator[int]:
    """An S3 server on this host; yields its port."""
    python = moto_python()
    if python is None:
        pytest.skip(MISSING)
    with start_moto(python) as port:
        yield port


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

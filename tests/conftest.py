"""What the tests of several rooms share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# before anything imports Ray
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[str]:
    """One local Ray for all tests that need one; yields its address."""
    import ray

    context = ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        namespace="orchestrator",
    )
    yield context.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture
def object_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An address that leads, in this process, to what object stores go through, with a directory behind it."""
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    (tmp_path / "bucket").mkdir()
    files = SubTreeFileSystem(str(tmp_path / "bucket"), LocalFileSystem())
    monkeypatch.setattr(
        "orchestrator.journal.object_store._open_other", lambda uri: (files, uri.partition("://")[2].strip("/"))
    )
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return "mock:///runs"

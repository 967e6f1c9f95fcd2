"""What the tests of several rooms share."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# what else there is stays as it was, `CI` in the environment included, with which no new examples are tried
# and a busy machine is no failure
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

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


@pytest.fixture(scope="session")
def brittle_model() -> Callable[[int, list[float], float], bytes]:
    """Makes an ONNX model that answers `scores`, and raises for rows whose first cell is below `below`."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    def make(features: int, scores: list[float], below: float) -> bytes:
        constants = {
            "table": np.asarray([scores], dtype=np.float32),
            "first": np.asarray([0], dtype=np.int64),
            "limit": np.asarray(below, dtype=np.float32),
            "outside": np.asarray(100, dtype=np.int64),
            "flat": np.asarray([-1], dtype=np.int64),
        }
        nodes = [
            helper.make_node("Gather", ["rows", "first"], ["cell"], axis=1),
            helper.make_node("Less", ["cell", "limit"], ["is_bad"]),
            helper.make_node("Cast", ["is_bad"], ["bad"], to=TensorProto.INT64),
            helper.make_node("Mul", ["bad", "outside"], ["places"]),
            helper.make_node("Reshape", ["places", "flat"], ["index"]),
            helper.make_node("Gather", ["table", "index"], ["scores"], axis=0),
        ]
        graph = helper.make_graph(
            nodes,
            "brittle",
            [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", features])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", len(scores)])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return bytes(model.SerializeToString())

    return make

"""What the tests of several rooms share."""

import os
from collections.abc import Iterator

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

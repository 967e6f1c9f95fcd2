"""Replicas that need a whole host, or a GPU, on a Ray cluster of several hosts (raylets on this machine)."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "ray"))

import ray  # noqa: E402
from connections import Connections  # noqa: E402
from ray.cluster_utils import Cluster  # noqa: E402
from studies import begin, events, networks, run_to_end, wait_for  # noqa: E402

from deploy import replicas_of, stop_endpoint  # noqa: E402
from deploy.access.tokens import read_token  # noqa: E402
from orchestrator.domain.specification import StudySpecification  # noqa: E402
from trainables.data import load, split  # noqa: E402

ROWS = 40  # times 20: each request is at the replica for long enough to be counted there
PORT = 18461


@pytest.fixture
def hosts() -> Iterator[str]:
    """Three hosts of two CPUs, each with a GPU that only Ray believes in; yields the cluster's address."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "num_gpus": 1})
    for _ in range(2):
        cluster.add_node(num_cpus=2, num_gpus=1)
    ray.init(address=cluster.address, namespace="orchestrator", log_to_driver=False)
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def given(tmp_path: Path) -> StudySpecification:
    return networks(tmp_path, "hosts", {"port": PORT, "cpu": 2, "gpu": 0.5, "replicas": {"min": 1, "max": 2}})


def test_a_replica_as_large_as_a_host_gets_one_from_the_workers_on_it(hosts: str, given: StudySpecification) -> None:
    running = begin(given, hosts)
    try:
        endpoint = wait_for(lambda: running.runner_status()["endpoint"], "the endpoint")
        wait_for(lambda: running.status()["champion"], "the first champion")
        wait_for(lambda: running.status()["states"]["running"] == 4, "two workers on each of the two other hosts")
        rows = split(load("sklearn:digits")).test_x[:20].tolist() * ROWS
        with Connections(endpoint["url"], read_token(Path(endpoint["token_file"])), rows) as load_on:
            wait_for(lambda: len(set(replicas_of("hosts").hosts)) == 2, "a replica on a second host")
            wait_for(lambda: running.status()["states"]["running"] == 2, "two workers to stay")
        assert load_on.answered > 0
        assert load_on.errors == []
        wait_for(lambda: running.status()["states"]["running"] == 4, "the workers to come back")
        running.stop()
        run_to_end(running)
    finally:
        running.release()
        stop_endpoint("hosts")
    left = [event for event in events(given) if event["type"] == "interrupted"]
    assert {event["cause"] for event in left if "end" in event["cause"]} <= {"its worker had to end"}
    assert [event for event in events(given) if event["type"] == "failed"] == []

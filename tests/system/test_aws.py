"""The AWS form of the cluster's file, run by Ray's own AWS provider: workers come as a study asks for them, and go.

EC2 is played by moto, and each instance that it launches is a host out of namespaces. The file is the project's own;
what such a host cannot have is laid over it: an image, the set-up of packages, a network share.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from cluster import HOST_ENVIRONMENT, Cluster, descendants, wait_for
from conftest import MISSING, moto_python
from hosts import ROOT, hosts, leftovers, missing
from region import CLIENT, IMAGE, KEY_NAME, NETWORK, Region

from orchestrator.journal import read_journal
from orchestrator.study import Layout

NEEDS_BOTO = f"boto3 is not installed: {sys.executable} -m pip install --target {CLIENT} boto3"
pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(900),
    pytest.mark.skipif(bool(missing()), reason=f"hosts out of namespaces need: {', '.join(missing())}"),
    pytest.mark.skipif(moto_python() is None, reason=MISSING),
    pytest.mark.skipif(not (CLIENT / "boto3").is_dir(), reason=NEEDS_BOTO),
]

FILE = ROOT / "cluster.yaml"
STUDY = "spot"
TUNNEL_PORT = 18265
JOBS = f"http://127.0.0.1:{TUNNEL_PORT}"
SPOT_HOSTS = 2  # for three workers of half a GPU
NOTICED_SECONDS = 12.0
RESUMED_SECONDS = 15.0
IDLE_MINUTES = 0.5
PATIENCE_SECONDS = 240.0  # for conditions on a busy machine, not for times


def changes() -> Mapping[str, Any]:
    kinds = yaml.safe_load(FILE.read_text())["available_node_types"]
    sizes: dict[str, dict[str, int]] = {"head": {"CPU": 2}, "cpu": {"CPU": 2}, "gpu": {"CPU": 2, "GPU": 1}}
    for name, kind in kinds.items():
        kind.pop("docker", None)
        kind["resources"] = sizes[name]
        kind["node_config"] |= {"ImageId": IMAGE, "KeyName": KEY_NAME}
    return {
        "provider": {"use_internal_ips": True},
        "docker": None,
        "available_node_types": kinds,
        "idle_timeout_minutes": IDLE_MINUTES,
    }


@contextmanager
def tunnel(cluster: Cluster) -> Iterator[None]:
    """Opens a way through ssh to the job server, which listens on the head's own address alone."""
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ExitOnForwardFailure=yes")
    words = [word for option in options for word in ("-o", option)]
    forward = f"{TUNNEL_PORT}:127.0.0.1:8265"
    command = ["ssh", "-N", "-i", str(cluster.hosts.key), *words, "-L", forward, f"root@{cluster.head.ip}"]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as through:
        try:
            yield
        finally:
            through.terminate()


@pytest.fixture(scope="module")
def region() -> Iterator[tuple[Cluster, Region]]:
    with hosts(HOST_ENVIRONMENT, NETWORK) as made:
        environment = Region.environment(made)
        made.environment |= environment
        with Region(made, str(moto_python())) as region:
            cluster = Cluster(made, FILE, changes(), environment)
            cluster.up()
            with tunnel(cluster):
                yield cluster, region
            cluster.down()
            wait_for(lambda: not region.instances(), "the end of every instance", PATIENCE_SECONDS)
            assert not region.errors
    assert not leftovers()


def worker_hosts(cluster: Cluster) -> set[str]:
    done = cluster.run("status", STUDY, "--graph", "--json", "--address", JOBS)
    nodes = descendants(json.loads(done.stdout)["nodes"])
    return {node["host"] for node in nodes if node["kind"] == "worker" and node["state"] == "alive"}


def events(cluster: Cluster, kind: str, since: float) -> list[Mapping[str, Any]]:
    batches = read_journal(Layout(cluster.storage, STUDY).journal)
    return [event for batch in batches for event in batch if event["type"] == kind and event["at"] >= since]


def test_a_study_launches_the_spot_workers_that_it_needs(region: tuple[Cluster, Region]) -> None:
    cluster, ec2 = region
    assert len(ec2.instances()) == 1, "only the head, before there is work"
    file = Path(__file__).parent / "study/spot.yaml"
    cluster.run("submit", str(file), "--address", JOBS, "--storage", str(cluster.storage), "--no-wait")

    def spots() -> set[str]:
        return {instance.ip for instance in ec2.instances() if instance.is_spot and instance.state == "running"}

    wait_for(lambda: len(spots()) == SPOT_HOSTS, "spot instances", PATIENCE_SECONDS)
    wait_for(lambda: worker_hosts(cluster) == spots(), "workers on all of them", PATIENCE_SECONDS)
    wait_for(lambda: len(events(cluster, "checkpointed", 0)) > 10, "checkpoints", PATIENCE_SECONDS)


def test_a_spot_worker_that_vanishes_costs_no_attempt(region: tuple[Cluster, Region]) -> None:
    cluster, ec2 = region
    lost = next(instance for instance in ec2.instances() if instance.is_spot)
    vanished_at = time.time()
    ec2.vanish(lost)
    wait_for(lambda: events(cluster, "interrupted", vanished_at), "a word about it", 30)
    interrupted = {event["trial"]: event for event in events(cluster, "interrupted", vanished_at)}
    assert min(event["at"] for event in interrupted.values()) - vanished_at < NOTICED_SECONDS

    def resumed() -> dict[int, Mapping[str, Any]]:
        found = {event["trial"]: event for event in events(cluster, "started", vanished_at + 1)}
        return found if interrupted.keys() <= found.keys() else {}

    starts = wait_for(resumed, "its trials on the other host", PATIENCE_SECONDS)
    for number in interrupted:
        assert starts[number]["attempt"] == 0
        assert starts[number]["at"] - vanished_at < RESUMED_SECONDS
    assert not events(cluster, "failed", vanished_at)


def test_idle_workers_go(region: tuple[Cluster, Region]) -> None:
    cluster, ec2 = region
    stopped = cluster.run("stop", STUDY, "--address", JOBS, "--storage", str(cluster.storage))
    assert "is stopped after" in stopped.stdout
    wait_for(lambda: len(ec2.instances()) == 1, "the end of idle workers", IDLE_MINUTES * 60 + PATIENCE_SECONDS)

"""One cluster, two tenants: under load replicas get the room of workers, afterwards workers come back."""

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import ray
from connections import Connections
from studies import begin, events, networks, run_to_end, wait_for, worker_processes

from deploy import replicas_of, stop_endpoint
from deploy.access.tokens import read_token
from orchestrator.domain.specification import StudySpecification
from orchestrator.process_graph.launch import RunningStudy
from trainables.data import load, split

pytestmark = pytest.mark.ray

ROWS = 40  # times 20: each request is at the replica for long enough to be counted there
PORT = 18432


@pytest.fixture(params=["pooled", pytest.param("tune", marks=pytest.mark.long)])
def served(tmp_path: Path, request: pytest.FixtureRequest) -> StudySpecification:
    serve = {"port": PORT, "replicas": {"min": 1, "max": 3}}
    return networks(tmp_path, "tenants", serve, execution=request.param)


@pytest.fixture
def running(ray_session: str, served: StudySpecification) -> Iterator[RunningStudy]:
    study = begin(served, ray_session)
    yield study
    study.release()
    stop_endpoint("tenants")


def workers() -> int:
    """Returns how many worker processes there are."""
    return len(worker_processes())


def test_replicas_take_the_room_of_workers_and_give_it_back(running: RunningStudy, served: StudySpecification) -> None:
    endpoint = wait_for(lambda: running.runner_status()["endpoint"], "the endpoint")
    wait_for(lambda: running.status()["champion"], "the first champion")
    wait_for(lambda: workers() == 3, "as many workers as fit beside the least of replicas")
    rows = split(load("sklearn:digits")).test_x[:20].tolist() * ROWS
    with Connections(endpoint["url"], read_token(Path(endpoint["token_file"])), rows) as load_on:
        wait_for(lambda: replicas_of("tenants").asked == 3, "the endpoint to ask for more replicas")
        wait_for(lambda: workers() == 1, "workers to give their room")
        wait_for(lambda: replicas_running() == 3, "the replicas to run")
        wait_for(lambda: tenants_cpus() == {"tuning": 1.0, "serving": 3.0}, "Ray to export what each tenant holds")
        assert all(computes_behind_others(process) for process in worker_processes())
    assert load_on.answered > 0
    assert load_on.errors == []
    wait_for(lambda: replicas_running() == 1, "the replicas to go")
    wait_for(lambda: workers() == 3, "the workers to come back")
    running.stop()
    run_to_end(running)

    left = [event["cause"] for event in events(served) if event["type"] == "interrupted"]
    gave_way = {"pooled": "its worker had to end", "tune": "its slot gave its room to a replica"}[served.execution]
    assert left.count(gave_way) >= 2
    assert [event for event in events(served) if event["type"] == "failed"] == []
    assert_nothing_done_twice(served)


def tenants_cpus() -> dict[str, float]:
    """Returns what Ray's metrics port says of the tenants of this study."""
    text = httpx.get(f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics").text
    told = [line for line in text.splitlines() if line.startswith("ray_orchestrator_tenant_cpus{")]
    mine = [line for line in told if 'study="tenants"' in line]
    return {line.partition('tenant="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in mine}


def computes_behind_others(process: psutil.Process) -> bool:
    """Returns whether most of what a worker computed, it computed in the idle class."""
    busiest = max(process.threads(), key=lambda thread: thread.user_time)
    return os.sched_getscheduler(busiest.id) == os.SCHED_IDLE


def replicas_running() -> int:
    from ray import serve

    states = serve.status().applications["tenants"].deployments["replica"].replica_states
    return int(states.get("RUNNING", 0)) if set(states) == {"RUNNING"} else -1


def assert_nothing_done_twice(served: StudySpecification) -> None:
    """A trial whose worker left starts again at the very step that it had reached."""
    reached: dict[int, int] = {}
    resumed = 0
    for event in events(served):
        if event["type"] == "reported":
            reached[event["trial"]] = event["reports"][-1][0]
        if event["type"] == "started" and event["trial"] in reached:
            assert event["step"] == reached[event["trial"]]
            resumed += 1
    assert resumed >= 1

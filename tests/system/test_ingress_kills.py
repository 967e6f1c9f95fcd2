"""What it costs when a process in front of an endpoint's replicas, or one of them, is killed with -9 under load."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from under_load import Load, Shop, wait_until

from deploy import EndpointAddress, Scale, endpoint_handle, start_endpoint, stop_endpoint, stop_serve
from deploy.ingress.choice import haproxy_binary

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(600),
    pytest.mark.skipif(haproxy_binary() is None, reason="there is no wheel with HAProxy for this system"),
]

REPLICAS = 3
KILLS = 3
MORE_ANSWERS = 100  # after a kill: what fails among them was broken by the new HAProxy
PORT = 18431
START = """
import json, sys
from deploy import Scale, start_endpoint
from orchestrator.process_graph.session import start_session

start_session(sys.argv[1], reserved_cpus=1, say=lambda line: None)
address = start_endpoint("kept", sys.argv[1], port=int(sys.argv[2]), ingress="haproxy", scale=Scale(cpus=0.5))
print(json.dumps([address.port, address.ingress]))
"""


@pytest.fixture(scope="module")
def address(ray_session: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointAddress]:
    stop_serve()  # where another test left it
    storage = tmp_path_factory.mktemp("runs")
    yield start_endpoint("animals", storage, port=18430, ingress="haproxy", scale=Scale(REPLICAS, REPLICAS, 0.5))
    stop_endpoint("animals")
    assert stop_serve()


def haproxies(port: int) -> list[psutil.Process]:
    """Returns the HAProxies that listen on the port."""
    found = []
    for process in psutil.process_iter():
        try:
            listens = process.name() == "haproxy" and any(
                each.laddr.port == port for each in process.net_connections("tcp") if each.status == "LISTEN"
            )
        except psutil.Error:
            continue
        found += [process] if listens else []
    return found


def only_haproxy(port: int) -> psutil.Process:
    """Returns the HAProxy that listens on the port; in a reload the next one begins before the last one ceases."""
    wait_until(lambda: len(haproxies(port)) == 1, what="one HAProxy")
    return haproxies(port)[0]


def pids() -> set[int]:
    return {replica["pid"] for replica in endpoint_handle("animals").status()["replicas"]}


def kill(processes: list[psutil.Process]) -> float:
    """Returns when the processes were killed, of the monotonic clock."""
    killed = time.monotonic()
    for process in processes:
        process.kill()
    return killed


def came_back(load: Load, killed: float) -> None:
    """Waits for an answer to what was asked after HAProxy was killed, and looks at what failed until then."""
    wait_until(lambda: any(answer["begun"] > killed for answer in load.answers), what="an answer after the kill")
    after = min(answer["begun"] for answer in load.answers if answer["begun"] > killed)
    print(f"answers came {after - killed:.1f} s after HAProxy was killed; {len(load.errors)} requests failed")
    enough = len(load.answers) + MORE_ANSWERS
    wait_until(lambda: len(load.answers) > enough, what="answers of the new one")
    # nobody listened, or the connection broke: no status, so that no client takes it for an answer
    assert [error for error in load.errors if "status" in error] == []
    assert [error for error in load.errors if error["begun"] > after] == []


def test_a_killed_replica_costs_no_request(address: EndpointAddress, tmp_path: Path) -> None:
    endpoint_handle("animals").promote(Shop(tmp_path).make("ant"))
    wait_until(lambda: len(pids()) == REPLICAS)
    with Load(address) as load:
        for _ in range(KILLS):
            before = pids()
            os.kill(min(before), signal.SIGKILL)
            wait_until(lambda before=before: len(pids()) == REPLICAS and min(before) not in pids())
    assert load.errors == []


def test_a_killed_haproxy_is_started_again_with_its_routes(address: EndpointAddress, tmp_path: Path) -> None:
    endpoint_handle("animals").promote(Shop(tmp_path).make("bee"))
    wait_until(lambda: len(pids()) == REPLICAS)
    with Load(address, pause=0.02) as load:
        came_back(load, kill([only_haproxy(address.port)]))


def test_haproxies_killed_in_a_reload_are_started_again(address: EndpointAddress, tmp_path: Path) -> None:
    endpoint_handle("animals").promote(Shop(tmp_path).make("cat"))
    wait_until(lambda: len(pids()) == REPLICAS)
    manager = only_haproxy(address.port).parent()
    assert manager is not None
    with Load(address, pause=0.02) as load:
        before = pids()
        os.kill(min(before), signal.SIGKILL)
        deadline = time.monotonic() + 60
        while len(both := manager.children(recursive=True)) < 2:  # the two are there for a tenth of a second
            assert time.monotonic() < deadline, "there was no reload"
        came_back(load, kill(both))
        wait_until(lambda: len(pids()) == REPLICAS and min(before) not in pids(), what="the replica's successor")


def kept(storage: Path) -> list[object]:
    done = subprocess.run(
        [sys.executable, "-c", START, str(storage), str(PORT)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: list[object] = json.loads(done.stdout)
    return found


def test_a_killed_session_leaves_its_port_to_the_next(tmp_path: Path) -> None:
    try:
        assert kept(tmp_path) == [PORT, "HAProxy"]
        haproxy = only_haproxy(PORT)
        keeper = json.loads((tmp_path / ".session.json").read_text())["keeper"]["pid"]
        family = [psutil.Process(keeper), *psutil.Process(keeper).children(recursive=True)]
        for process in family:
            if process.name() != "haproxy" and process.is_running():
                process.kill()
        assert kept(tmp_path) == [PORT, "HAProxy"]
        assert only_haproxy(PORT).pid != haproxy.pid
        assert not haproxy.is_running() or haproxy.status() == psutil.STATUS_ZOMBIE
    finally:
        # by a process of its own: this one is connected to the Ray that all tests share
        subprocess.run([sys.executable, "-m", "orchestrator.cli", "down", "--storage", str(tmp_path)], check=True)
    wait_until(lambda: not haproxies(PORT), what="the end of the last HAProxy")

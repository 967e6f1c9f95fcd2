"""The servers of the endpoint's benchmark, each in processes of its own: ours, and those that are asked beside it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import orjson
import psutil
import ray
from sklearn.datasets import load_digits

from deploy import EndpointHandle, Scale, endpoint_handle, start_endpoint

PEERS = Path(__file__).parent
BENTOML = Path(sys.executable).parent.parent / "bentoml"  # a venv of its own: its pins are not ours
TOKEN = "benchmark"
START_SECONDS = 90.0


@dataclass(slots=True)
class Arm:
    """A server under test: where it listens, what it wants for a request, and the processes that answer."""

    name: str
    port: int
    path: str = "/predict"
    token: str = TOKEN
    processes: Sequence[int] = ()
    found: dict[tuple[int, int], list[dict[str, float]]] = field(default_factory=dict)

    def request(self, rows: list[list[float]]) -> bytes:
        body = orjson.dumps({"rows": rows})
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Bearer {self.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def running(name: str, command: list[str], port: int) -> Iterator[Arm]:
    """Runs a server in a process of its own."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, start_new_session=True, **quiet)
    try:
        wait_for(port, process)
        children = psutil.Process(process.pid).children(recursive=True)
        yield Arm(name, port, processes=[process.pid, *(child.pid for child in children)])
    finally:
        for child in psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []:
            child.kill()
        process.kill()
        process.wait()


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with status {process.returncode}: {process.args!r}")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
            return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError(f"no server at port {port} after {START_SECONDS:g} s: {process.args!r}")


def wait_for_an_answer(arm: Arm) -> None:
    deadline = time.monotonic() + START_SECONDS
    body = {"rows": load_digits().data[:1].tolist()}
    with httpx.Client(headers={"authorization": f"Bearer {arm.token}"}, timeout=10.0) as client:
        while time.monotonic() < deadline:
            try:
                if client.post(f"http://127.0.0.1:{arm.port}{arm.path}", json=body).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
    raise TimeoutError(f"{arm.name} does not answer after {START_SECONDS:g} s")


def served(kind: str, name: str, place: Path) -> Any:
    port = free_port()
    return running(name, [sys.executable, str(PEERS / "served.py"), kind, str(place), str(port)], port)


@contextmanager
def ours(place: Path, directory: Path, replicas: int) -> Iterator[Arm]:
    """Runs an endpoint with its ingress in a Ray of its own."""
    # Ray's workers are nice (15) by default: beside any other process of the machine that would be measured instead.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray reads it written so
    ray.init(
        address="local",
        num_cpus=replicas,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        namespace="orchestrator",
    )
    try:
        address = start_endpoint("digits", directory / "runs", port=0, scale=Scale(replicas, replicas))
        handle = endpoint_handle("digits")
        handle.promote(str(place / "bundle"), who="benchmark", why="to have an answer")
        yield Arm("ours", address.port, token=address.token, processes=wait_for_replicas(handle, replicas))
    finally:
        ray.shutdown()


def wait_for_replicas(handle: EndpointHandle, count: int) -> list[int]:
    """Returns the processes of all replicas, once they are there; of one that is missing the CPU would not count."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        pids = [replica["pid"] for replica in handle.status()["replicas"] if replica["version"]]
        if len(pids) == count:
            return pids
        time.sleep(0.1)
    raise TimeoutError(f"there are no {count} replicas after {START_SECONDS:g} s")


def command_of(pid: int) -> str:
    try:
        return " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:
        return ""


@contextmanager
def default_serve(place: Path) -> Iterator[Arm]:
    """Runs Ray Serve's default way, in a Ray of its own."""
    port = free_port()
    with running(
        "Ray Serve + FastAPI", [sys.executable, str(PEERS / "default_serve.py"), str(place), str(port)], port
    ) as arm:
        wait_for_an_answer(arm)  # the proxy listens before there is a replica
        arm.processes = [pid for pid in psutil.pids() if "ray::ServeReplica:default" in command_of(pid)]
        yield arm


@contextmanager
def bentoml(place: Path) -> Iterator[Arm]:
    port = free_port()
    command = [str(BENTOML / "bin" / "python"), "-m", "bentoml", "serve", "bento_service:Digits"]
    os.environ.update(BENTO_MODEL=str(place / "model.onnx"), BENTOML_DO_NOT_TRACK="True")
    with running(
        "BentoML", [*command, "--working-dir", str(PEERS), "--host", "127.0.0.1", "-p", str(port)], port
    ) as arm:
        yield arm


def ensure_bentoml() -> bool:
    """Returns whether BentoML is there; installs it into a venv of its own where it is not."""
    if (BENTOML / "bin" / "bentoml").exists():
        return True
    print("installing BentoML into .venv/bentoml…", flush=True)
    pip = [str(BENTOML / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
    done = subprocess.run([sys.executable, "-m", "venv", str(BENTOML)]).returncode == 0
    return done and subprocess.run([*pip, "bentoml", "onnxruntime"]).returncode == 0

"""How fast an endpoint answers, beside others that serve the same trained model: latency and throughput.

Ours through its ingress, and the replica's application alone in the server that Serve uses, against uvicorn + FastAPI +
the scikit-learn model (its handler in the event loop, and as `def`, in threads), Ray Serve's default way (a FastAPI
ingress deployment behind Serve's own proxy), BentoML, and the limit: a bare ASGI function with onnxruntime. All run at
once and idle but for the one that is asked; each round asks each of them. The load generator (`peers/load.py`) is a
process of its own; `client_share` says how much of a core it took. Where a server's process is known its own CPU time
per answer is given, which other work on the machine disturbs least: `per core` is what one core would answer.

    python benchmarks/endpoint.py --quick --json benchmarks/results/endpoint.json

BentoML needs `.venv/bentoml`, which is made where it is missing (about a minute, not counted).
"""

import argparse
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import joblib
import numpy as np
import orjson
import psutil
import ray
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from deploy import Scale, endpoint_handle, start_endpoint
from deploy.answering.call_cost import measure_cost
from deploy.bundle import Bundle, Kind, Lineage, Schema, write_bundle
from trainables.sklearn.export import to_onnx

HERE = Path(__file__).parent
PEERS = HERE / "peers"
BENTOML = Path(sys.executable).parent.parent / "bentoml"  # a venv of its own: its pins are not ours
TOKEN = "benchmark"
NARROW, WIDE = 64, 1024  # units of both hidden layers: a call of 10 µs, and one whose rows are cheaper together
MAIN = (32, 1)  # connections, rows
CELLS = tuple((connections, rows) for connections in (1, 32, 256) for rows in (1, 32, 1000))
QUICK_CELLS = ((1, 1), (32, 1), (256, 1), (32, 32), (1, 1000))
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


def train(directory: Path, width: int) -> Path:
    """Returns a directory with one trained network as scikit-learn's, as ONNX and as a bundle."""
    place = directory / str(width)
    place.mkdir()
    pixels, digits = load_digits(return_X_y=True)
    rows = pixels.astype(np.float32)
    model = MLPClassifier((width, width), max_iter=4, random_state=0)
    model.fit(rows, digits)
    joblib.dump(model, place / "model.joblib")
    converted = to_onnx(model, rows.shape[1])
    (place / "model.onnx").write_bytes(converted)
    names = tuple(f"pixel_{number}" for number in range(rows.shape[1]))
    labels = tuple(int(label) for label in model.classes_)
    schema = Schema(names, Kind.CLASSIFICATION, labels)
    lineage = Lineage("endpoint", 0, 1)
    write_bundle(place / "bundle", onnx_model=converted, schema=schema, lineage=lineage, sample_rows=rows[:64])
    return place


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
        promoted = endpoint_handle("digits").promote(str(place / "bundle"), who="benchmark", why="to have an answer")
        pids = [replica["pid"] for replica in promoted["replicas"]]
        yield Arm("ours", address.port, token=address.token, processes=pids)
    finally:
        ray.shutdown()


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


def ask(arm: Arm, file: Path, connections: int, seconds: float) -> dict[str, float]:
    """Returns the figures of one run of the load generator against a server."""
    before = cpu_seconds(arm.processes)
    command = [sys.executable, str(PEERS / "load.py"), "127.0.0.1", str(arm.port), str(file)]
    done = subprocess.run([*command, str(connections), str(seconds)], capture_output=True, check=True)
    said: dict[str, Any] = orjson.loads(done.stdout)
    cpu = cpu_seconds(arm.processes) - before
    keys = ("requests", "per_s", "p50_s", "p99_s", "client_share")
    figures = {key: float("nan") if said[key] is None else float(said[key]) for key in keys}  # None: no answer in time
    figures["failed"] = float(sum(said["no_200"].values()) + said["broken"])
    if arm.processes and said["requests"]:
        figures["cpu_s"] = cpu / said["requests"]
    return figures


def cpu_seconds(pids: Sequence[int]) -> float:
    total = 0.0
    for pid in pids:
        times = psutil.Process(pid).cpu_times()
        total += times.user + times.system
    return total


def measure(
    arms: Sequence[Arm], cells: Sequence[tuple[int, int]], rounds: int, seconds: float, directory: Path
) -> None:
    """Asks each server in each round, in an order that turns, so that none always comes after the same."""
    pixels = load_digits().data.astype(np.float32)
    rows = {count: np.resize(pixels, (count, pixels.shape[1])).tolist() for _, count in cells}
    for turn in range(rounds):
        for connections, count in cells:
            for arm in [*arms[turn % len(arms) :], *arms[: turn % len(arms)]]:
                file = directory / "request"
                file.write_bytes(arm.request(rows[count]))
                if turn == 0:
                    ask(arm, file, min(connections, 8), min(0.3, seconds))  # warms up
                figures = ask(arm, file, connections, seconds)
                arm.found.setdefault((connections, count), []).append(figures)
                print(
                    f"{arm.name:22} {connections:4} connections {count:5} rows: {figures['per_s']:8.0f}/s  "
                    f"p50 {figures['p50_s'] * 1e3:8.3f} ms  p99 {figures['p99_s'] * 1e3:8.3f} ms"
                    + (f"  cpu {figures['cpu_s'] * 1e6:7.1f} µs" if "cpu_s" in figures else "")
                    + (f"  failed {figures['failed']:.0f}" if figures["failed"] else ""),
                    flush=True,
                )


def median(arm: Arm, cell: tuple[int, int], key: str) -> float:
    return statistics.median(figures.get(key, float("nan")) for figures in arm.found[cell])


def ratio(one: Arm, other: Arm, cell: tuple[int, int], key: str) -> dict[str, float]:
    """Returns one's figure over the other's, round by round."""
    pairs = zip(one.found[cell], other.found[cell], strict=True)
    values = [first[key] / second[key] for first, second in pairs if key in first and key in second and second[key]]
    return {"median": statistics.median(values), "low": min(values), "high": max(values)} if values else {}


def figures_of(arm: Arm) -> dict[str, Any]:
    keys = ("per_s", "p50_s", "p99_s", "cpu_s", "client_share", "failed")
    cells = {
        f"{connections} connections, {rows} rows": {
            key: median(arm, (connections, rows), key) for key in keys if key in arm.found[(connections, rows)][0]
        }
        for connections, rows in arm.found
    }
    return {**cells, "rounds": {f"{c}x{r}": found for (c, r), found in arm.found.items()}}


def compare(directory: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    place = train(directory, NARROW)
    cells = QUICK_CELLS if arguments.quick else CELLS
    rounds, seconds = arguments.rounds or (1 if arguments.quick else 5), 0.6 if arguments.quick else 4.0
    left_out = []
    with ExitStack() as stack:
        arms = [
            stack.enter_context(served("fastapi", "FastAPI + scikit-learn", place)),
            stack.enter_context(served("fastapi_threads", "FastAPI, def", place)),
            stack.enter_context(served("bare", "bare ASGI + onnx", place)),
            stack.enter_context(served("replica", "our replica alone", place)),
        ]
        if not arguments.without_ray:
            arms.insert(0, stack.enter_context(ours(place, directory, arguments.replicas)))
            arms.append(stack.enter_context(default_serve(place)))
        if ensure_bentoml():
            arms.append(stack.enter_context(bentoml(place)))
        else:
            left_out.append("BentoML could not be installed")
        for arm in arms:
            wait_for_an_answer(arm)
        measure(arms, cells, rounds, seconds, directory)
    return {"arms": arms, "left_out": left_out, "cells": cells}


def compare_sharing(directory: Path, quick: bool) -> dict[str, Any]:
    """Asks the replica with a wide network, whose calls are shared, and the same without sharing."""
    place = train(directory, WIDE)
    rounds, seconds = (1, 1.0) if quick else (5, 4.0)
    with served("replica", "shared calls", place) as shared, served("alone", "a call each", place) as alone:
        measure([shared, alone], [(1, 1), MAIN], rounds, seconds, directory)
    cost = measure_cost(Bundle.open(place / "bundle"))
    return {
        "width": WIDE,
        "first_row_s": cost.first,
        "further_row_s": cost.further,
        "shared": figures_of(shared),
        "alone": figures_of(alone),
        "gain_32": ratio(shared, alone, MAIN, "per_s"),
        "p50_1": ratio(shared, alone, (1, 1), "p50_s"),
    }


def ratios_of(arms: Sequence[Arm]) -> dict[str, Any]:
    by_name = {arm.name: arm for arm in arms}
    mine = by_name.get("ours", by_name["our replica alone"])
    replica, bare = by_name["our replica alone"], by_name["bare ASGI + onnx"]
    fastapi = by_name["FastAPI + scikit-learn"]
    found = {
        "fastapi_32": ratio(mine, fastapi, MAIN, "per_s"),
        "fastapi_32_cpu": ratio(fastapi, mine, MAIN, "cpu_s"),
        "fastapi_32_replica_alone": ratio(replica, fastapi, MAIN, "per_s"),
        "fastapi_def_32": ratio(mine, by_name["FastAPI, def"], MAIN, "per_s"),
        "bare_p50_1": ratio(mine, bare, (1, 1), "p50_s"),
        "bare_p50_1_replica_alone": ratio(replica, bare, (1, 1), "p50_s"),
    }
    for name, key in (("Ray Serve + FastAPI", "serve_32"), ("BentoML", "bentoml_32")):
        if name in by_name:
            found[key] = ratio(mine, by_name[name], MAIN, "per_s")
    return {key: value for key, value in found.items() if value}


def print_table(arms: Sequence[Arm], cells: Sequence[tuple[int, int]]) -> None:
    for connections, rows in cells:
        title = f"{connections} connections, {rows} rows"
        print(f"\n{title:34} {'answers/s':>10} {'p50 ms':>9} {'p99 ms':>9} {'per core/s':>11}")
        for arm in arms:
            cell = (connections, rows)
            cpu = median(arm, cell, "cpu_s")
            print(
                f"  {arm.name:32} {median(arm, cell, 'per_s'):10.0f} {median(arm, cell, 'p50_s') * 1e3:9.3f} "
                f"{median(arm, cell, 'p99_s') * 1e3:9.3f} {1 / cpu if cpu == cpu and cpu else float('nan'):11.0f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="short rounds of few cells (90 s for one)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--rounds", type=int, help="rounds (5, with --quick 1)")
    parser.add_argument("--replicas", type=int, default=1, help="replicas of ours (1); more show how it scales")
    parser.add_argument("--without-ray", action="store_true", help="leave out what needs Ray: our ingress, Ray Serve")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="endpoint-") as directory:
        found = compare(Path(directory), arguments)
        sharing = compare_sharing(Path(directory), arguments.quick)
    arms, ratios = found["arms"], ratios_of(found["arms"])
    print_table(arms, found["cells"])
    print()
    for name, value in ratios.items():
        print(f"{name:28} {value['median']:7.2f}  ({value['low']:.2f} to {value['high']:.2f})")
    gain = sharing["gain_32"]["median"]
    print(f"calls shared, width {WIDE}, 32 connections: {gain:.2f} times the answers of a call each")
    for reason in found["left_out"]:
        print(f"left out: {reason}")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_bytes(orjson.dumps(report(arms, ratios, sharing, arguments), option=orjson.OPT_INDENT_2))


def report(arms: Sequence[Arm], ratios: dict[str, Any], sharing: dict[str, Any], arguments: Any) -> dict[str, Any]:
    packages = ("ray", "onnxruntime", "scikit-learn", "fastapi", "uvicorn")
    mine = [arm for arm in arms if arm.name.startswith("our")]
    return {
        "name": "endpoint",
        "machine": f"{platform.platform()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
        "quick": arguments.quick,
        "replicas": arguments.replicas,
        "ours": {arm.name: figures_of(arm) for arm in mine},
        "peers": {arm.name: figures_of(arm) for arm in arms if arm not in mine},
        "sharing": sharing,
        "ratios": ratios,
    }


if __name__ == "__main__":
    main()

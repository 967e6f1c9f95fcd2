"""What tuning costs the endpoint beside it: p99 of the endpoint alone, beside raw Ray Tune, beside our study.

One Ray and one endpoint for all three; they differ in what else runs. Measured in each: the latency of single rows
that a client asks for at a steady rate, and then, with several connections that never pause, how long the endpoint
waits for the second replica that this load needs. Raw Ray is a `tune.Tuner` that trains the same network with the same
CPUs: its trials give their CPUs back when they end. The client runs at a higher OS priority in all three, as if it
were on a host of its own.

    python benchmarks/tenants.py --quick --json benchmarks/results/tenants.json
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil
import ray
from ray import serve

from deploy import Client, EndpointAddress, Scale, endpoint_handle, start_endpoint
from deploy.bundle import Lineage
from orchestrator.domain.errors import EndpointError
from orchestrator.domain.specification import StudySpecification
from orchestrator.process_graph.launch import launch
from orchestrator.tuning.code import Code
from trainables import Context
from trainables.data import load, split
from trainables.torch.mlp import MLP

NAME = "tenants"
SCALE = Scale(1, 2, 1.0, ongoing=2.0, down_seconds=3.0)
PER_SECOND = 40.0  # single rows; far below what one replica answers
CONNECTIONS = 6  # of the load that needs a second replica
TRAINABLE = "trainables.torch.mlp"
WIDTH = 512
TRIAL_SECONDS = 20.0  # of raw Tune's trials: its replica waits until one ends
READY_SECONDS = 90.0  # after which the second replica is not waited for any more
SETTLE_SECONDS = 6.0
ARMS = ("alone", "raw", "ours")


def train_for(seconds: float) -> None:
    """Trains the digits' network; what raw Tune's trials do."""
    network = MLP()
    network.build({**MLP.defaults, "width": WIDTH}, split(load("sklearn:digits")), Context(seed=0))
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        network.step()


def raw_tune(address: str) -> None:
    """Runs trials with Ray Tune until it is ended; in a process of its own."""
    from ray import tune

    def objective(config: dict[str, Any]) -> None:
        train_for(TRIAL_SECONDS)
        tune.report({"value": 0.0})

    ray.init(address=address, namespace="raw", log_to_driver=False, logging_level="ERROR")
    tune.Tuner(
        tune.with_resources(objective, {"cpu": 1}),
        tune_config=tune.TuneConfig(num_samples=10_000, metric="value", mode="max"),
        run_config=tune.RunConfig(storage_path=tempfile.mkdtemp(prefix="raw-tune-"), verbose=0),
    ).fit()


@contextmanager
def beside_nothing(address: str, storage: Path) -> Iterator[None]:
    yield


@contextmanager
def beside_raw_tune(address: str, storage: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, __file__, "--raw-tune", address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until(lambda: free_cpus() < 1, "Tune's trials to run")
        yield
    finally:
        process.kill()
        process.wait()
        wait_until(lambda: free_cpus() >= 2, "Tune's trials to end")


@contextmanager
def beside_our_study(address: str, storage: Path) -> Iterator[None]:
    given = StudySpecification.from_dict(
        {
            "study": f"tenants-{time.time_ns()}",
            "trainable": TRAINABLE,
            "data": {"source": "sklearn:digits"},
            "space": {"lr": {"min": 1e-4, "max": 1e-2, "log": True}, "width": {"values": [WIDTH]}},
            "objective": {"metric": "val_accuracy", "goal": "maximize"},
            "search": "random",
            "scheduler": {"kind": "none", "max": 200},
            "budget": {"trials": 10_000},
            "serve": {
                "name": NAME,
                "replicas": {"min": SCALE.least, "max": SCALE.most},
                "scale": {"ongoing": SCALE.ongoing, "down": SCALE.down_seconds},
            },
            "storage": str(storage),
        }
    )
    running = launch(given, storage, Code.named(TRAINABLE), address=address)
    try:
        wait_until(lambda: running.status()["states"]["running"] >= 2, "the study's trials to run")
        yield
    finally:
        running.stop()
        wait_until(lambda: running.status()["phase"] == "ended", "the study to end")
        running.release()
        wait_until(lambda: free_cpus() >= 2, "the workers to end")


BESIDE = {"alone": beside_nothing, "raw": beside_raw_tune, "ours": beside_our_study}


def free_cpus() -> float:
    return float(ray.available_resources().get("CPU", 0.0))


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 180.0
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited 180 s for {what}")
        time.sleep(0.1)


def steady(address: EndpointAddress, rows: list[Any], seconds: float) -> list[float]:
    """Returns the seconds that each answer took, counted from when the request was due: waiting in line counts."""
    taken = []
    began = time.perf_counter()
    with Client(address.url, address.token) as client:
        for number in range(int(seconds * PER_SECOND)):
            due = began + number / PER_SECOND
            time.sleep(max(0.0, due - time.perf_counter()))
            client.predict([rows[number % len(rows)]])
            taken.append(time.perf_counter() - due)
    return taken


def seconds_to_second_replica(address: EndpointAddress, rows: list[Any]) -> tuple[float, int]:
    """Returns how long the endpoint waits for its second replica under a load that needs it, and what failed."""
    stopping = threading.Event()
    failed: list[str] = []

    def ask() -> None:
        with Client(address.url, address.token) as client:
            while not stopping.is_set():
                try:
                    client.predict(rows)
                except EndpointError as error:
                    failed.append(str(error))

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(CONNECTIONS)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    while running_replicas() < SCALE.most and time.monotonic() - began < READY_SECONDS:
        time.sleep(0.05)
    ready = time.monotonic() - began
    stopping.set()
    for thread in threads:
        thread.join()
    return ready, len(failed)


def running_replicas() -> int:
    states = serve.status().applications[NAME].deployments["replica"].replica_states
    return int(states.get("RUNNING", 0))


def promote_a_network(directory: Path) -> None:
    network = MLP()
    network.build({**MLP.defaults, "width": 64}, split(load("sklearn:digits")), Context(seed=0))
    network.step()
    network.export(directory / "bundle", Lineage("benchmark", 0, 1))
    endpoint_handle(NAME).promote(str(directory / "bundle"), who="benchmark", why="to have an answer")


def measure(directory: Path, rounds: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    context = ray.init(
        address="local",
        num_cpus=3,  # two workers and the least of replicas, on whatever cores there are
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        namespace="orchestrator",
    )
    found: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    try:
        storage = directory / "runs"
        address = start_endpoint(NAME, storage, port=0, scale=SCALE)
        promote_a_network(directory)
        rows = split(load("sklearn:digits")).test_x[:64].tolist()
        with suppress(psutil.AccessDenied, PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, -10)
        for _ in range(rounds):
            for arm in ARMS:
                with BESIDE[arm](context.address_info["gcs_address"], storage):
                    time.sleep(SETTLE_SECONDS)
                    steady(address, rows, 2.0)
                    taken = steady(address, rows, seconds)
                    ready, failed = seconds_to_second_replica(address, rows)
                    found[arm].append(
                        {
                            "median_s": statistics.median(taken),
                            "p99_s": float(np.quantile(taken, 0.99)),
                            "ready_s": ready,
                            "failed": failed,
                        }
                    )
                    print(arm, {key: round(value, 4) for key, value in found[arm][-1].items()}, flush=True)
                wait_until(lambda: running_replicas() == SCALE.least, "the second replica to go")
    finally:
        ray.shutdown()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round of 10 s each (three of 20 s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--raw-tune", metavar="ADDRESS", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.raw_tune:
        raw_tune(arguments.raw_tune)
        return
    with tempfile.TemporaryDirectory(prefix="tenants-") as directory:
        found = measure(Path(directory), 1 if arguments.quick else 3, 10.0 if arguments.quick else 20.0)
    medians = {
        arm: {key: statistics.median(r[key] for r in rounds) for key in rounds[0]} for arm, rounds in found.items()
    }
    ratios = {
        "p99_alone": medians["ours"]["p99_s"] / medians["alone"]["p99_s"],
        "p99_alone_raw": medians["raw"]["p99_s"] / medians["alone"]["p99_s"],
        "ready_s": medians["ours"]["ready_s"],
        "ready_s_raw": medians["raw"]["ready_s"],
    }
    print(f"{'':8} {'median ms':>10} {'p99 ms':>10} {'2nd replica s':>14} {'failed':>7}")
    for arm, figures in medians.items():
        print(
            f"{arm:8} {figures['median_s'] * 1e3:10.2f} {figures['p99_s'] * 1e3:10.2f} {figures['ready_s']:14.1f} "
            f"{figures['failed']:7.0f}"
        )
    print(
        f"p99 beside our study / alone: {ratios['p99_alone']:.2f}; beside raw Ray Tune: {ratios['p99_alone_raw']:.2f}"
    )
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_bytes(orjson.dumps(report(medians, found, ratios), option=orjson.OPT_INDENT_2))


def report(medians: dict[str, Any], found: dict[str, Any], ratios: dict[str, float]) -> dict[str, Any]:
    packages = ("ray", "onnxruntime", "torch")
    return {
        "name": "tenants",
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
        "ours": medians["ours"],
        "peers": {"alone": medians["alone"], "raw Ray Tune and Serve": medians["raw"]},
        "rounds": found,
        "ratios": ratios,
    }


if __name__ == "__main__":
    main()

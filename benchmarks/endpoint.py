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
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import orjson
import psutil
from peers.servers import PEERS, Arm, bentoml, default_serve, ensure_bentoml, ours, served, wait_for_an_answer
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from deploy.answering.call_cost import measure_cost
from deploy.bundle import Bundle, Kind, Lineage, Schema, write_bundle
from trainables.sklearn.export import to_onnx

NARROW, WIDE = 64, 1024  # units of both hidden layers: a call of 10 µs, and one whose rows are cheaper together
MAIN = (32, 1)  # connections, rows
CELLS = tuple((connections, rows) for connections in (1, 32, 256) for rows in (1, 32, 1000))
QUICK_CELLS = ((1, 1), (32, 1), (256, 1), (32, 32), (1, 1000))


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

"""How fast a new model answers, and whether a request is lost meanwhile.

Each round makes 100 swaps under load: client threads ask all the time, over kept connections, and check that every
answer is its version's own. Measured: decision (the call of `promote`) to the first answer of the new version, to the
word that every replica serves it, and requests lost (no 2xx after one retry of a broken connection), wrong, or stale
(sent after `promote` returned and answered by a version before). `--export` adds checkpoint to decision: load a trained
network, export it, compare it with its bundle.

    python benchmarks/promotion.py --quick --json results/promotion.json
    python benchmarks/promotion.py --replicas 3 --ingress haproxy --json results/promotion_3.json
"""

import argparse
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import ray

from deploy import Client, EndpointAddress, EndpointHandle, Scale, endpoint_handle, start_endpoint, stop_endpoint
from deploy.bundle import Bundle, Kind, Lineage, Schema, constant_model, write_bundle
from orchestrator.domain.errors import EndpointError

FEATURES = 64  # as many as the digits have
CLASSES = 10
SCHEMA = Schema(tuple(f"pixel_{i}" for i in range(FEATURES)), Kind.CLASSIFICATION, tuple(range(CLASSES)))
ROW = dict.fromkeys(SCHEMA.columns, 0.5)
PAUSE_SECONDS = 0.05  # between swaps, so that each version answers for a while


@dataclass(frozen=True, slots=True)
class Reply:
    """One answered request: when it was sent and answered (perf_counter seconds), by which version, rightly or not."""

    sent: float
    answered: float
    version: int
    is_right: bool


@dataclass(frozen=True, slots=True)
class Swap:
    """One promotion: when it was decided, when every replica had said yes, the version it made, how many said yes."""

    decided: float
    done: float
    version: int
    replicas: int


@dataclass(slots=True)
class Load:
    """Client threads that ask until they are told to end; each appends to lists of its own."""

    address: EndpointAddress
    threads: int
    replies: list[list[Reply]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    _over: threading.Event = field(default_factory=threading.Event)
    _running: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for _ in range(self.threads):
            kept: list[Reply] = []
            self.replies.append(kept)
            thread = threading.Thread(target=self._ask, args=(kept,))
            self._running.append(thread)
            thread.start()

    def stop(self) -> list[Reply]:
        """Returns all replies, in the order in which they were answered."""
        self._over.set()
        for thread in self._running:
            thread.join()
        return sorted((reply for kept in self.replies for reply in kept), key=lambda reply: reply.answered)

    def _ask(self, kept: list[Reply]) -> None:
        with Client(self.address.url, self.address.token, attempts=1) as client:  # what is lost is counted
            while not self._over.is_set():
                sent = time.perf_counter()
                try:
                    answer = client.predict([ROW])
                except EndpointError as error:
                    self.lost.append(str(error))
                    continue
                right = answer.predictions == (answer.trial % CLASSES,)
                kept.append(Reply(sent, time.perf_counter(), int(answer.version), right))


def make_bundle(directory: Path, trial: int) -> Path:
    """Returns a bundle that always predicts its trial's number modulo the classes."""
    scores = [float(label == trial % CLASSES) for label in range(CLASSES)]
    return write_bundle(
        directory / str(trial),
        onnx_model=constant_model(FEATURES, scores),
        schema=SCHEMA,
        lineage=Lineage("promotion", trial, 1),
        sample_rows=np.zeros((4, FEATURES), dtype=np.float32),
    )


def run_round(
    address: EndpointAddress, handle: EndpointHandle, bundles: Sequence[Path], threads: int
) -> dict[str, Any]:
    """Promotes each bundle once under load and returns the figures."""
    load = Load(address, threads)
    load.start()
    start = time.perf_counter()
    swaps = []
    for bundle in bundles:
        time.sleep(PAUSE_SECONDS)
        decided = time.perf_counter()
        promotion = handle.promote(str(bundle), who="benchmark", why="the next one")
        load.lost.extend(promotion["errors"])
        swaps.append(Swap(decided, time.perf_counter(), promotion["version"], len(promotion["replicas"])))
    time.sleep(PAUSE_SECONDS)
    replies = load.stop()
    return figures(swaps, replies, load.lost, time.perf_counter() - start)


def figures(swaps: Sequence[Swap], replies: Sequence[Reply], lost: Sequence[str], seconds: float) -> dict[str, Any]:
    first = [first_answer(swap, replies) - swap.decided for swap in swaps]
    done = [swap.done - swap.decided for swap in swaps]
    latency = [reply.answered - reply.sent for reply in replies]
    return {
        "swaps": len(swaps),
        "fewest_replicas": min(swap.replicas for swap in swaps),
        "requests": len(replies) + len(lost),
        "requests_per_s": len(replies) / seconds,
        "lost_requests": len(lost),
        "wrong_answers": sum(not reply.is_right for reply in replies),
        "stale_answers": count_stale(swaps, replies),
        "answer_median_s": statistics.median(first),
        "answer_p99_s": float(np.quantile(first, 0.99)),
        "all_replicas_median_s": statistics.median(done),
        "all_replicas_p99_s": float(np.quantile(done, 0.99)),
        "latency_median_s": statistics.median(latency),
        "latency_p99_s": float(np.quantile(latency, 0.99)),
        "errors": sorted(set(lost))[:5],
    }


def first_answer(swap: Swap, replies: Sequence[Reply]) -> float:
    return next((reply.answered for reply in replies if reply.version >= swap.version), float("inf"))


def count_stale(swaps: Sequence[Swap], replies: Sequence[Reply]) -> int:
    ends = np.array([swap.done for swap in swaps])
    due = [int(np.searchsorted(ends, reply.sent)) for reply in replies]
    return sum(reply.version < swaps[number - 1].version for number, reply in zip(due, replies, strict=True) if number)


def measure_export(directory: Path, times: int) -> list[float]:
    """Returns seconds from a checkpoint to a checked bundle, of the digits' network in a warm worker."""
    import trainables
    from trainables.data import split
    from trainables.torch.mlp import MLP

    data = split(trainables.load("sklearn:digits"))
    network = MLP()
    network.build(MLP.defaults, data, trainables.Context(seed=0))
    network.step()
    (directory / "checkpoint").mkdir(parents=True)
    network.save(directory / "checkpoint")
    network.export(directory / "warm", Lineage("export", 0, 1))
    seconds = []
    for number in range(1, times + 1):
        start = time.perf_counter()
        network.load(directory / "checkpoint")
        network.export(directory / str(number), Lineage("export", number, 1))
        Bundle.open(directory / str(number)).warm_up()
        seconds.append(time.perf_counter() - start)
    return seconds


def run(arguments: argparse.Namespace, directory: Path) -> dict[str, Any]:
    rounds = 1 if arguments.quick else arguments.rounds
    ray.init(
        address="local",
        num_cpus=max(3, arguments.replicas),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        namespace="orchestrator",
    )
    try:
        address = start_endpoint(
            "promotion",
            directory / "runs",
            port=0,
            ingress=arguments.ingress,
            scale=Scale(arguments.replicas, arguments.replicas),
        )
        handle = endpoint_handle("promotion")
        handle.promote(str(make_bundle(directory, 0)), who="benchmark", why="the first one")
        results = []
        for number in range(rounds):
            first = 1 + number * arguments.swaps
            bundles = [make_bundle(directory, first + swap) for swap in range(arguments.swaps)]
            results.append(run_round(address, handle, bundles, arguments.threads))
        stop_endpoint("promotion")
    finally:
        ray.shutdown()
    ours = {key: summary([result[key] for result in results]) for key in results[0] if key != "errors"}
    ours["ingress"], ours["replicas"] = address.ingress, arguments.replicas
    ours["errors"] = [error for result in results for error in result["errors"]]
    if arguments.export:
        export = measure_export(directory / "export", 10 if arguments.quick else 50)
        ours["checkpoint_to_decision_s"] = {
            "median": statistics.median(export),
            "low": min(export),
            "high": max(export),
        }
    return ours


def summary(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def print_table(ours: dict[str, Any]) -> None:
    print(f"behind {ours['ingress']}, replicas: {ours['replicas']}")
    print(f"{'promotion under load':28} {'median':>12} {'low':>12} {'high':>12}")
    for key, value in ours.items():
        if isinstance(value, dict):
            print(f"{key:28} {value['median']:12.4g} {value['low']:12.4g} {value['high']:12.4g}")
    for error in ours["errors"]:
        print(f"lost: {error}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round, at most 90 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the figures")
    parser.add_argument("--swaps", type=int, default=100, help="swaps a round (100)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds without --quick (5)")
    parser.add_argument("--threads", type=int, default=2, help="client threads (2)")
    parser.add_argument("--replicas", type=int, default=1, help="replicas (1)")
    parser.add_argument("--ingress", choices=("auto", "haproxy", "serve"), default="auto", help="before them (auto)")
    parser.add_argument("--export", action="store_true", help="measure checkpoint to decision too (loads torch)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="promotion-") as directory:
        ours = run(arguments, Path(directory))
    print_table(ours)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_bytes(orjson.dumps(report(ours), option=orjson.OPT_INDENT_2))


def report(ours: dict[str, Any]) -> dict[str, Any]:
    packages = ("ray", "onnxruntime", "numpy")
    return {
        "name": "promotion",
        "machine": f"{platform.platform()}, {platform.processor() or platform.machine()}",
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
        "ours": ours,
        "peers": {},
        "ratios": {key: ours[key] for key in ("lost_requests", "answer_p99_s")},
    }


if __name__ == "__main__":
    main()

"""What a study asks of its object store: ours against Ray Tune on one S3 server, in one run.

The same trainable, trials, reports and checkpoints on both sides: trials of 9 steps, one checkpoint at a trial's end,
2 workers, no early stopping. A proxy before the server counts requests and bytes, from the first to the last; what goes
to a checkpoint's own objects is told apart from the rest, which is what reports cost. "Default" is what `tune.Tuner`
does by itself. "Tuned" Ray Tune reuses its actors, has its loggers off, and writes down how it stands at its end only:
it keeps no report on the storage, where ours keeps all. Both of Ray Tune's counts and ours grow with the seconds that a
run takes (it syncs, and we renew a lease, by the clock), its far more: on a busy machine the ratio flatters us.
The server is moto, which `tests/system/prepare.sh moto` installs.

    python benchmarks/storage.py [--quick] [--json FILE]
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "system"))  # the server and the proxy that the system tests have

from store_proxy import StoreProxy  # noqa: E402
from store_server import moto_python, start_moto  # noqa: E402

STEPS, WORKERS = 9, 2
STEP_SECONDS = 0.02
STATE_BYTES = 100_000
SPACE = {"x": {"min": 0.0, "max": 1.0}}
RESULTS = ROOT / "benchmarks" / "results" / "storage.json"
AIM = 10.0
OF_CHECKPOINT = re.compile(r"/checkpoints/\d|/checkpoint_\d")  # the objects below ours and theirs


class Saving:
    """A loss that falls with the steps, and a state to save."""

    defaults: Mapping[str, Any] = {"x": 0.5}
    saves = True

    def build(self, params: Mapping[str, Any], data: Any, context: Any) -> None:
        self.height, self.steps = (params["x"] - 0.3) ** 2, 0

    def step(self) -> Mapping[str, float]:
        time.sleep(STEP_SECONDS)
        self.steps += 1
        return {"loss": self.height + 1 / self.steps}

    def save(self, directory: Path) -> None:
        (directory / "state.bin").write_bytes(bytes([self.steps]) * STATE_BYTES)

    def load(self, directory: Path) -> None:
        self.steps = (directory / "state.bin").read_bytes()[0]

    def predict(self, rows: Any) -> Any:
        raise AssertionError("nothing to serve")

    def export(self, directory: Path, lineage: Any) -> None:
        raise AssertionError("nothing to serve")


def start_ray() -> str:
    import ray

    context = ray.init(
        address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, namespace="orchestrator"
    )
    return str(context.address_info["gcs_address"])


def ours(trials: int, storage: str, server: str) -> dict[str, float]:
    """Runs our pooled execution; returns seconds, trials, reports and checkpoints."""
    from orchestrator.domain.specification import StudySpecification
    from orchestrator.process_graph.launch import launch
    from orchestrator.study import read_study
    from orchestrator.tuning.code import Code

    address = start_ray()
    specification = StudySpecification.from_dict(
        {
            "study": "storage",
            "trainable": f"{Path(__file__).resolve()}:Saving",
            "space": SPACE,
            "objective": {"metric": "loss", "goal": "minimize"},
            "search": "random",
            "scheduler": {"kind": "none", "max": STEPS},
            "budget": {"trials": trials},
            "resources": {"cpu": 1, "concurrent": WORKERS},
            "execution": "pooled",
            "storage": storage,
        }
    )
    began = time.perf_counter()
    running = launch(specification, storage, Code.named(specification.trainable), address=address)
    while running.status()["phase"] != "ended":
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    running.release()
    os.environ["AWS_ENDPOINT_URL"] = server  # our own look at what came of it does not count
    state = read_study(storage, "storage").state
    return {
        "seconds": seconds,
        "trials": len(state.trials),
        "reports": sum(len(trial.reports) for trial in state.trials),
        "checkpoints": sum(trial.checkpoint is not None for trial in state.trials),
    }


def ray_tune(trials: int, storage: str, server: str, *, tuned: bool) -> dict[str, float]:
    """Runs Ray Tune; returns seconds, trials, reports and checkpoints."""
    if tuned:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
        os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "3600"
    from ray import tune

    class Peer(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.saving = Saving()
            self.saving.build(config, None, None)

        def step(self) -> dict[str, Any]:
            return {**self.saving.step(), "done": self.saving.steps >= STEPS}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            self.saving.save(Path(checkpoint_dir))

        def load_checkpoint(self, checkpoint: Any) -> None:
            self.saving.load(Path(checkpoint))

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

    start_ray()
    began = time.perf_counter()
    results = tune.Tuner(
        Peer,
        param_space={"x": tune.uniform(0.0, 1.0)},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=trials, max_concurrent_trials=WORKERS, reuse_actors=tuned
        ),
        run_config=tune.RunConfig(
            verbose=0, storage_path=storage, checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=True)
        ),
    ).fit()
    seconds = time.perf_counter() - began
    os.environ["AWS_ENDPOINT_URL"] = server
    return {
        "seconds": seconds,
        "trials": len(results),
        "reports": sum(result.metrics["training_iteration"] for result in results if result.metrics),
        "checkpoints": sum(result.checkpoint is not None for result in results),
    }


RUNS = {
    "ours": ours,
    "tuned": lambda *given: ray_tune(*given, tuned=True),
    "default": lambda *given: ray_tune(*given, tuned=False),
}


def measure(kind: str, trials: int, server: int) -> dict[str, Any]:
    """Runs one measurement in a process and a Ray session of its own, with a new bucket behind a new proxy."""
    print(f"  {kind}, {trials} trials …", end="", flush=True)
    bucket = f"b{uuid.uuid4().hex[:12]}"
    urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{server}/{bucket}", method="PUT")).close()
    with StoreProxy(server) as proxy:
        environment = os.environ | {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        command = [sys.executable, __file__, "--one", kind, "--trials", str(trials)]
        command += ["--storage", f"s3://{bucket}/runs", "--server", f"http://127.0.0.1:{server}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if done.returncode:
            raise SystemExit(f"{kind} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
        found |= counted(proxy, found)
    assert found["trials"] == found["checkpoints"] == trials, found
    assert found["reports"] == trials * STEPS, found
    print(
        f" {found['seconds']:.1f} s, {found['requests']} requests: {found['requests_a_report']:.2f} a report, "
        f"{found['requests_a_checkpoint']:.2f} a checkpoint"
    )
    return found


def counted(proxy: StoreProxy, ran: Mapping[str, float]) -> dict[str, Any]:
    """Returns what went through the proxy, a report and a checkpoint."""
    of_checkpoints = [call for call in proxy.calls if OF_CHECKPOINT.search(call.path)]
    others = [call for call in proxy.calls if not OF_CHECKPOINT.search(call.path)]
    return {
        "requests": len(proxy.calls),
        "bytes": sum(call.size_bytes for call in proxy.calls),
        "by_verb": Counter(call.verb for call in proxy.calls),
        "requests_a_report": len(others) / ran["reports"],
        "bytes_a_report": sum(call.size_bytes for call in others) / ran["reports"],
        "requests_a_checkpoint": len(of_checkpoints) / ran["checkpoints"],
        "bytes_a_checkpoint": sum(call.size_bytes for call in of_checkpoints) / ran["checkpoints"],
    }


COMPARED = ("requests", "bytes", "requests_a_report", "requests_a_checkpoint", "bytes_a_report", "bytes_a_checkpoint")


def ratio(peers: list[float], own: list[float]) -> dict[str, float]:
    """Returns their cost over ours: of the medians, and the extremes of the pairs."""
    pairs = [peer / mine for peer in peers for mine in own]
    return {"median": statistics.median(peers) / statistics.median(own), "low": min(pairs), "high": max(pairs)}


@contextmanager
def server() -> Iterator[int]:
    """An S3 server on this host; yields its port."""
    python = moto_python()
    if python is None:
        raise SystemExit("moto is not installed; install it beside the venv: tests/system/prepare.sh moto")
    with start_moto(python) as port:
        yield port


def main() -> None:
    """Measures, prints a table, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer trials and one round; about a minute")
    parser.add_argument("--json", metavar="FILE", help=f"where to write the figures, such as {RESULTS.name}")
    parser.add_argument("--one", choices=list(RUNS), help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--storage", help=argparse.SUPPRESS)
    parser.add_argument("--server", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(RUNS[given.one](given.trials, given.storage, given.server)))
        return
    rounds, trials = (1, 10) if given.quick else (3, 30)
    found: dict[str, list[dict[str, Any]]] = {kind: [] for kind in RUNS}
    with server() as port:
        for number in range(rounds):  # in turn, so that a busy minute of the machine hits everybody
            print(f"round {number + 1} of {rounds}")
            for kind in RUNS:
                found[kind].append(measure(kind, trials, port))
    ratios = {
        f"{peer}_ray_tune": {
            what: ratio([run[what] for run in found[peer]], [run[what] for run in found["ours"]]) for what in COMPARED
        }
        for peer in ("tuned", "default")
    }
    show(found, ratios, trials)
    if given.json:
        from orchestrator.tuning.versions import versions

        report = {
            "name": "storage",
            "machine": {"cpus": os.cpu_count(), "system": platform.platform()},
            "versions": versions(),
            "trials": trials,
            "reports": trials * STEPS,
            "checkpoints": trials,
            "checkpoint_bytes": STATE_BYTES,
            "ours": found["ours"],
            "peers": {"tuned_ray_tune": found["tuned"], "default_ray_tune": found["default"]},
            "ratios": ratios,
        }
        Path(given.json).write_text(json.dumps(report, indent=1) + "\n")


def show(found: Mapping[str, Any], ratios: Mapping[str, Any], trials: int) -> None:
    """Prints the medians, and theirs over ours."""
    print(f"\n{trials} trials of {STEPS} reports and one checkpoint of {STATE_BYTES // 1000} kB; theirs ÷ ours:")
    print(f"{'':22}{'ours':>12}{'Tune, tuned':>24}{'Tune, default':>24}")
    for what in COMPARED:
        line = f"{what.replace('_', ' '):22}{statistics.median(run[what] for run in found['ours']):12.2f}"
        for peer in ("tuned", "default"):
            against = ratios[f"{peer}_ray_tune"][what]
            middle = statistics.median(run[what] for run in found[peer])
            line += f"{middle:12.2f} {against['median']:4.1f} ({against['low']:.1f}–{against['high']:.1f})".rjust(24)
        print(line)
    reached = ratios["default_ray_tune"]["requests"]["median"]
    print(f"{reached:.1f} times fewer requests than Ray Tune (aim: {AIM:.0f})")


if __name__ == "__main__":
    main()

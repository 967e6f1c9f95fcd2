"""What a trial costs besides its training: ours against Ray Tune, in one run.

Trivial trials of 9 steps under ASHA with 2 workers; start-up is counted on both sides. "Tuned" Ray Tune reuses its
actors and has its loggers off; "default" is what `tune.Tuner` does by itself. Ours runs the pooled execution with its
journal on the disk.

    python benchmarks/overhead.py [--quick] [--json FILE]
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STEPS, ETA, WORKERS = 9, 3, 2
SPACE = {"x": {"min": 0.0, "max": 1.0}}


class Trivial:
    """A loss that falls with the steps; nothing to save, so that only the program's own cost is left."""

    defaults: Mapping[str, Any] = {"x": 0.5}
    saves = False

    def build(self, params: Mapping[str, Any], data: Any, context: Any) -> None:
        self.height, self.steps = (params["x"] - 0.3) ** 2, 0

    def step(self) -> Mapping[str, float]:
        self.steps += 1
        return {"loss": self.height + 1 / self.steps}

    def save(self, directory: Path) -> None:
        raise AssertionError("saves is False")

    def load(self, directory: Path) -> None:
        raise AssertionError("saves is False")

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


def ours(trials: int) -> dict[str, float]:
    """Runs our pooled execution; returns seconds, trials and reports."""
    from orchestrator.domain.specification import StudySpecification
    from orchestrator.process_graph.launch import launch
    from orchestrator.study import read_study
    from orchestrator.tuning.code import Code

    address = start_ray()
    storage = Path(tempfile.mkdtemp(prefix="overhead-"))
    specification = StudySpecification.from_dict(
        {
            "study": "overhead",
            "trainable": f"{Path(__file__).resolve()}:Trivial",
            "space": SPACE,
            "objective": {"metric": "loss", "goal": "minimize"},
            "search": "random",
            "scheduler": {"kind": "asha", "min": 1, "max": STEPS, "eta": ETA},
            "budget": {"trials": trials},
            "resources": {"cpu": 1, "concurrent": WORKERS},
            "execution": "pooled",
            "storage": str(storage),
        }
    )
    began = time.perf_counter()
    running = launch(specification, storage, Code.named(specification.trainable), address=address)
    while running.status()["phase"] != "ended":
        time.sleep(0.05)
    seconds = time.perf_counter() - began
    running.release()
    state = read_study(storage, "overhead").state
    assert len(state.trials) == trials
    reports = sum(len(trial.reports) for trial in state.trials)
    shutil.rmtree(storage)
    return {"seconds": seconds, "trials": trials, "reports": reports}


def ray_tune(trials: int, *, tuned: bool) -> dict[str, float]:
    """Runs Ray Tune's own ASHA; returns seconds, trials and reports."""
    if tuned:
        os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
        os.environ["TUNE_GLOBAL_CHECKPOINT_S"] = "3600"
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    class Peer(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.height, self.steps = (config["x"] - 0.3) ** 2, 0

        def step(self) -> dict[str, float]:
            self.steps += 1
            return {"loss": self.height + 1 / self.steps}

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            return None

        def load_checkpoint(self, checkpoint: Any) -> None:
            return None

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

    start_ray()
    storage = tempfile.mkdtemp(prefix="overhead-")
    began = time.perf_counter()
    results = tune.Tuner(
        Peer,
        param_space={"x": tune.uniform(0.0, 1.0)},
        tune_config=tune.TuneConfig(
            metric="loss",
            mode="min",
            num_samples=trials,
            max_concurrent_trials=WORKERS,
            scheduler=ASHAScheduler(max_t=STEPS, grace_period=1, reduction_factor=ETA),
            reuse_actors=tuned,
        ),
        run_config=tune.RunConfig(verbose=0, storage_path=storage),
    ).fit()
    seconds = time.perf_counter() - began
    reports = sum(result.metrics["training_iteration"] for result in results if result.metrics)
    assert len(results) == trials
    shutil.rmtree(storage)
    return {"seconds": seconds, "trials": trials, "reports": reports}


def measure(kind: str, trials: int) -> dict[str, float]:
    """Runs one measurement in a process and a Ray session of its own."""
    print(f"  {kind}, {trials} trials …", end="", flush=True)
    done = subprocess.run(
        [sys.executable, __file__, "--one", kind, "--trials", str(trials)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{kind} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    found["ms_a_trial"] = 1000 * found["seconds"] / found["trials"]
    found["reports_a_second"] = found["reports"] / found["seconds"]
    print(f" {found['seconds']:.1f} s, {found['ms_a_trial']:.2f} ms a trial, {found['reports_a_second']:.0f} reports/s")
    return found


def ratio(peers: list[float], own: list[float]) -> dict[str, float]:
    """Returns their cost over ours: of the medians, and the extremes of the pairs."""
    pairs = [peer / mine for peer in peers for mine in own]
    return {
        "median": statistics.median(peers) / statistics.median(own),
        "low": min(pairs),
        "high": max(pairs),
    }


def main() -> None:
    """Measures, prints a table, and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer trials and one round; at most 90 s")
    parser.add_argument("--json", metavar="FILE", help="where to write the figures")
    parser.add_argument("--one", choices=["ours", "tuned", "default"], help=argparse.SUPPRESS)
    parser.add_argument("--trials", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        run = {"ours": ours, "tuned": lambda n: ray_tune(n, tuned=True), "default": lambda n: ray_tune(n, tuned=False)}
        print(json.dumps(run[given.one](given.trials)))
        return
    rounds = 1 if given.quick else 3
    sizes = {"small": 1_000, "large": 3_000 if given.quick else 10_000}
    peers = {"tuned": 100 if given.quick else 300, "default": 10 if given.quick else 30}
    found: dict[str, list[dict[str, float]]] = {"small": [], "large": [], "tuned": [], "default": []}
    for number in range(rounds):  # in turn, so that a busy minute of the machine hits everybody
        print(f"round {number + 1} of {rounds}")
        for size, trials in sizes.items():
            found[size].append(measure("ours", trials))
        for peer, trials in peers.items():
            if peer == "tuned" or number == 0:
                found[peer].append(measure(peer, trials))
    costs = {name: [run["ms_a_trial"] for run in runs] for name, runs in found.items()}
    ratios = {
        "tuned_ray_tune": ratio(costs["tuned"], costs["large"]),
        "default_ray_tune": ratio(costs["default"], costs["large"]),
    }
    print(f"\n{'':28}{'ms a trial':>12}{'reports/s':>12}  theirs ÷ ours")
    names = {
        "large": f"ours, {sizes['large']} trials",
        "small": f"ours, {sizes['small']} trials",
        "tuned": f"Ray Tune, tuned, {peers['tuned']}",
        "default": f"Ray Tune, default, {peers['default']}",
    }
    for name, label in names.items():
        rate = statistics.median(run["reports_a_second"] for run in found[name])
        against = ratios.get(f"{name}_ray_tune")
        shown = f"{against['median']:.1f} ({against['low']:.1f}–{against['high']:.1f})" if against else ""
        print(f"{label:28}{statistics.median(costs[name]):12.2f}{rate:12.0f}  {shown}")
    if given.json:
        from orchestrator.tuning.versions import versions

        report = {
            "name": "overhead",
            "machine": {"cpus": os.cpu_count(), "system": platform.platform()},
            "versions": versions(),
            "ours": {"large": found["large"], "small": found["small"]},
            "peers": {"tuned_ray_tune": found["tuned"], "default_ray_tune": found["default"]},
            "ratios": ratios,
        }
        Path(given.json).write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

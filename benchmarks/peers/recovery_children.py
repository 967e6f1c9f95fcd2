"""What runs in the child processes of `benchmarks/recovery.py`: what both sides train, and Ray Tune's script."""

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

STEP_SECONDS, STEPS, FIRST_RUNG, ETA, WORKERS, WORKER_CPUS = 0.15, 27, 9, 3, 2, 0.5
LOG_VARIABLE = "RECOVERY_LOG"  # where the trainable writes its steps down


class Work:
    """A loss that falls with the steps, none of which is quick. The parameter x tells trials apart."""

    defaults: Mapping[str, Any] = {"x": 0.5}

    def build(self, params: Mapping[str, Any], data: Any, context: Any) -> None:
        self.x, self.steps = float(params["x"]), 0

    def step(self) -> Mapping[str, float]:
        time.sleep(STEP_SECONDS)
        self.steps += 1
        line = f"{time.time()} {os.getpid()} {self.x!r} {self.steps}\n"
        log = os.open(os.environ[LOG_VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(log, line.encode())
        os.close(log)
        return {"loss": (self.x - 0.3) ** 2 + 1 / self.steps}

    def save(self, directory: Path) -> None:
        (Path(directory) / "state.json").write_text(json.dumps({"x": self.x, "steps": self.steps}))

    def load(self, directory: Path) -> None:
        state = json.loads((Path(directory) / "state.json").read_text())
        self.x, self.steps = state["x"], state["steps"]

    def predict(self, rows: Any) -> Any:
        raise AssertionError("nothing to serve")

    def export(self, directory: Path, lineage: Any) -> None:
        raise AssertionError("nothing to serve")


def ray_alone(place: Path) -> None:
    """Runs a Ray that belongs to no driver, for as long as this process lives."""
    import ray

    context = ray.init(
        address="local", num_cpus=max(2, os.cpu_count() or 1), include_dashboard=False, log_to_driver=False
    )
    (place / "address.new").write_text(str(context.address_info["gcs_address"]))
    (place / "address.new").rename(place / "address")
    while True:
        time.sleep(60)


def ray_tune(place: Path, trials: int) -> None:
    """Runs Ray Tune's experiment to its end, or goes on with it."""
    import ray
    from ray import tune
    from ray.tune.schedulers import ASHAScheduler

    class Peer(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.work = Work()
            self.work.build(config, None, None)

        def step(self) -> dict[str, float]:
            return dict(self.work.step())

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            self.work.save(Path(checkpoint_dir))

        def load_checkpoint(self, checkpoint: Any) -> None:
            self.work.load(Path(checkpoint))

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.setup(new_config)
            return True

    ray.init(address=(place / "address").read_text(), log_to_driver=False)
    experiment = str(place / "experiments" / "recovery")
    trainable = tune.with_resources(Peer, {"cpu": WORKER_CPUS})
    if tune.Tuner.can_restore(experiment):
        tuner = tune.Tuner.restore(experiment, trainable, resume_unfinished=True, resume_errored=True)
    else:
        tuner = tune.Tuner(
            trainable,
            param_space={"x": tune.uniform(0.0, 1.0)},
            tune_config=tune.TuneConfig(
                metric="loss",
                mode="min",
                num_samples=trials,
                max_concurrent_trials=WORKERS,
                scheduler=ASHAScheduler(max_t=STEPS, grace_period=FIRST_RUNG, reduction_factor=ETA),
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="recovery",
                verbose=0,
                storage_path=str(place / "experiments"),
                failure_config=tune.FailureConfig(max_failures=3),
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=FIRST_RUNG),
            ),
        )
    results = tuner.fit()
    steps = [result.metrics.get("training_iteration", 0) if result.metrics else 0 for result in results]
    (place / "result.json").write_text(json.dumps([len(results), sum(steps)]))

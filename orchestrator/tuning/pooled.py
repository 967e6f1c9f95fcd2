"""`execution: pooled`: a Tune slot is a long-lived worker that runs the study's trials while there is work for it.

Tune starts, places, watches and replaces the workers; which trial runs is between worker and study. Its searcher hook
is what makes the number of workers elastic: asked for the next slot, it gives one while fewer run than are wanted.
"""

import os
import time
from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from orchestrator.tuning.outage import is_outage
from orchestrator.tuning.priority import stand_back
from orchestrator.tuning.slots import RESULT_SECONDS, StudyActor, Wanted, actor_port, fit, resources_of
from orchestrator.tuning.worker import FencedError, OutOfMemoryError, Worker
from orchestrator.tuning.workshop import Workshop

Lost = Callable[[str, str, bool], None]
"""Is told (worker, cause, whether its trials are to blame) of a worker whose process ended without being released."""


class PooledWorker(tune.Trainable):  # type: ignore[misc]
    """A worker in a Tune slot."""

    def setup(self, config: dict[str, Any]) -> None:
        """Makes the worker; the data comes from the object store without a copy."""
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"  # spinning threads would starve the replicas beside us
        host = ray.get_runtime_context().get_node_id()
        workshop: Workshop = ray.get(config["workshop"])
        if workshop.specification.serve is not None:
            stand_back()  # a replica that wakes up goes first
        self.worker = Worker(config["worker"], actor_port(config["study"]), workshop, host=host)

    def step(self) -> dict[str, Any]:
        """Works for some seconds; the result says whether the worker is done."""
        deadline = time.monotonic() + RESULT_SECONDS
        try:
            while time.monotonic() < deadline:
                answer = self.worker.turn()
                if answer.release:
                    return {"done": True, "value": 0.0}
                if answer.wait_seconds and not self.worker.holds:
                    time.sleep(answer.wait_seconds)
        except (FencedError, OutOfMemoryError):
            return {"done": True, "value": 0.0}
        return {"value": 0.0}

    def cleanup(self) -> None:
        """Lets go of what is held."""
        self.worker.drop()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: trials have their own checkpoints."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing."""


class WorkerSearcher(Searcher):  # type: ignore[misc]
    """Gives Tune a worker's configuration while the study wants one more."""

    def __init__(
        self, wanted: Wanted, configuration: Callable[[str], dict[str, Any]], ended: Callable[[str], bool]
    ) -> None:
        super().__init__(metric="value", mode="max")
        self._wanted = wanted
        self._configuration = configuration
        self._ended = ended
        self.live: dict[str, str] = {}  # Tune's trial id -> worker

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns the next worker's configuration, None while none is wanted, FINISHED after the study's end."""
        wanted = self._wanted()
        if wanted < 0:
            return str(Searcher.FINISHED)
        # one whose host went silent stays in Tune's books until Ray gives the host up, and is replaced before
        if sum(not self._ended(worker) for worker in self.live.values()) >= wanted:
            return None
        configuration = self._configuration(trial_id)
        self.live[trial_id] = configuration["worker"]
        return configuration

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """A worker's slot is over; why, the callback knows."""
        self.live.pop(trial_id, None)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: Tune's own state is disposable."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class WorkerWatch(tune.Callback):  # type: ignore[misc]
    """Hears of workers that died, and can end one."""

    def __init__(self, lost: Lost) -> None:
        self._lost = lost
        self._actors: dict[str, Any] = {}
        self._ended: set[str] = set()

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Remembers the worker's actor."""
        self._actors[trial.config["worker"]] = trial.temporary_state.ray_actor

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker's process died under it."""
        worker = trial.config["worker"]
        self._actors.pop(worker, None)
        self._lost(worker, cause_of(trial), not was_outage(trial))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """A worker was released, or given up by the study."""
        self._actors.pop(trial.config["worker"], None)

    def running(self) -> int:
        """Returns how many workers run."""
        return len(self._actors)

    def workers(self) -> list[str]:
        """Returns the workers that run, in the order in which they began."""
        return list(self._actors)

    def kill(self, workers: frozenset[str]) -> None:
        """Ends the processes of workers whose time is over; user code may hold them for hours."""
        for worker in workers & set(self._actors):
            ray.kill(self._actors.pop(worker))
            self._ended.add(worker)

    def has_ended(self, worker: str) -> bool:
        """Returns whether the worker was ended here; Tune may not know yet."""
        return worker in self._ended


def was_outage(trial: Any) -> bool:
    """Returns whether a Tune trial ended because the study's storage was away for too long."""
    try:
        error = trial.get_pickled_error()
    except Exception:  # noqa: BLE001 - see `cause_of`
        return False
    return is_outage(getattr(error, "cause", error))


def cause_of(trial: Any) -> str:
    """Returns in a line why a Tune trial's process died."""
    try:
        error = trial.get_pickled_error() or trial.get_error()
    except Exception as unreadable:  # noqa: BLE001 - Tune's own record of an error may not unpickle; the fact stays
        error = unreadable
    if error is None:
        return "its process ended"
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if any("OutOfMemory" in line or "memory monitor" in line for line in lines):
        return "killed by Ray's memory monitor: the host ran out of memory"
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:300]


def run_pooled(
    study: StudyActor,
    workshop: Any,
    *,
    life: str,
    wanted: Wanted,
    watch: WorkerWatch,
    cpu: float,
    gpu: float,
    room_name: Callable[[], str] = str,
) -> None:
    """Runs the study's workers until it wants none any more; blocks.

    Args:
        study: the study actor.
        workshop: the object reference of the `Workshop`.
        life: prefix of the workers' names, different in each life of the runner.
        wanted: how many workers should run now.
        watch: hears of losses; the caller uses it to end workers.
        cpu: CPUs of a worker.
        gpu: GPUs of a worker.
        room_name: gives each worker's placement group a name.
    """

    def configuration(trial_id: str) -> dict[str, Any]:
        return {"worker": f"{life}-{trial_id}", "study": study, "workshop": workshop}

    searcher = WorkerSearcher(wanted, configuration, watch.has_ended)
    fit(PooledWorker, searcher=searcher, callbacks=[watch], resources=resources_of(cpu, gpu), room_name=room_name)

"""`execution: tune`: one Tune slot per trial; CONTINUE, STOP and PAUSE go through Tune's own decisions.

`StudySearcher` and `StudyScheduler` are Tune's two hooks onto a study. They share a `SlotDesk`, which speaks the
exchange for all slots at once, and they work in anybody's `tune.Tuner(...)`:

    desk = SlotDesk.local(keeper)
    tune.Tuner(my_trainable, tune_config=tune.TuneConfig(
        search_alg=StudySearcher(desk), scheduler=StudyScheduler(desk), num_samples=-1))

Any exception in a Tune hook ends the whole experiment, so each of them is caught, kept in `desk.errors`, and the slot
concerned is stopped.
"""

import os
from collections.abc import Callable
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from orchestrator.domain.exchange import Export, ExportResult, Progress, Run
from orchestrator.domain.trials import CheckpointRef, Decision, Failure
from orchestrator.schedulers import make_scheduler
from orchestrator.tuning.failures import failure_of
from orchestrator.tuning.outage import is_outage
from orchestrator.tuning.pooled import cause_of, was_outage
from orchestrator.tuning.priority import stand_back
from orchestrator.tuning.runs import RETURNED, ActiveRun
from orchestrator.tuning.slot_desk import SlotDesk, Word
from orchestrator.tuning.slots import StudyActor, actor_port, fit, resources_of
from orchestrator.tuning.tidiness import seed_globals
from orchestrator.tuning.workshop import Workshop

ORDER = "_orchestrator"  # the key of a slot's order in its configuration, and of its word in a result


class StudySearcher(Searcher):  # type: ignore[misc]
    """Tune's search hook: a new slot for each trial that the study begins, or resumes from an earlier life."""

    def __init__(self, desk: SlotDesk) -> None:
        super().__init__(metric=desk.metric, mode=desk.mode)
        self.desk = desk

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Returns a slot's configuration; None while the next order is not for a new slot; FINISHED at the end."""
        try:
            order = self.desk.order()
            if order is None:
                return str(Searcher.FINISHED) if self.desk.is_over and self.desk.is_idle else None
            if isinstance(order, Run) and order.trial in self.desk.paused:
                return None  # it goes on in the slot in which it was paused: the scheduler's business
            self.desk.take()
            if isinstance(order, Export):
                self.desk.export_began(trial_id, order.bundle)
                return {ORDER: order}
            return dict(order.params) | {ORDER: order if self.desk.pass_order else (order.trial, order.attempt)}
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self.desk.errors.append(repr(error))
            return None

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """The scheduler has told it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: Tune's own state is disposable."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


class StudyScheduler(FIFOScheduler):  # type: ignore[misc]
    """Tune's scheduling hook: the study's decisions in Tune's words."""

    def __init__(self, desk: SlotDesk) -> None:
        super().__init__()
        self.desk = desk

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Returns Tune's CONTINUE, PAUSE or STOP."""
        return self._guarded(trial, lambda: self._result(trial, result, done=False))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """The slot's trial came to its own end, failed in the user's code, or was an export."""
        self._guarded(trial, lambda: self._result(trial, result, done=True))

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """The slot's process died."""
        self._guarded(
            trial, lambda: self._let_go(trial) if was_outage(trial) else self._crashed(trial, cause_of(trial))
        )

    def choose_trial_to_run(self, tune_controller: Any, **_: Any) -> Any:
        """Returns the slot to start: a new one first (Tune starts it in any case), else the paused one to promote."""
        for trial in tune_controller.get_trials():
            if trial.status == TuneTrial.PENDING:
                return trial
        order = self.desk.order()
        if isinstance(order, Run) and order.trial in self.desk.paused:
            wanted = self.desk.paused[order.trial]
            for trial in tune_controller.get_trials():
                if trial.trial_id == wanted and trial.status == TuneTrial.PAUSED:
                    self.desk.take()
                    del self.desk.paused[order.trial]
                    return trial
        if self.desk.is_over and self.desk.is_idle:
            for trial in list(tune_controller.get_trials()):
                if trial.status == TuneTrial.PAUSED:  # Tune would wait for it for ever
                    tune_controller.stop_trial(trial)
        return None

    def _guarded(self, trial: Any, act: Callable[[], Decision | None]) -> str:
        try:
            return _TUNE[act() or Decision.STOP]
        except Exception as error:  # noqa: BLE001 - see the module's docstring
            self.desk.errors.append(repr(error))
            if is_outage(error):
                self._let_go(trial)
                return str(TrialScheduler.STOP)
        try:
            self._crashed(trial, f"a hook of the scheduler failed: {self.desk.errors[-1]}")
        except Exception as error:  # noqa: BLE001 - the study cannot be told: its next writer takes the trial back
            self.desk.errors.append(repr(error))
        return str(TrialScheduler.STOP)

    def _result(self, trial: Any, result: dict[str, Any], *, done: bool) -> Decision | None:
        order = trial.config[ORDER]
        word = result.get(ORDER, Word())
        if isinstance(order, Export):
            self.desk.export_ended(trial.trial_id, word.export)
            return Decision.STOP
        progress = self._progress(order, word, result, done)
        decision = self.desk.tell(progress)
        if decision is Decision.CONTINUE and isinstance(order, Run) and self.desk.lacks_room:
            decision = self._give_way(trial, progress)
        if decision is Decision.PAUSE:
            self.desk.paused[progress.trial] = trial.trial_id
        return decision

    def _give_way(self, trial: Any, progress: Progress) -> Decision:
        """Has a slot save its trial and let go of it; returns what becomes of the slot."""
        saved = ray.get(trial.temporary_state.ray_actor.saved_now.remote())
        ref = None if saved is None else CheckpointRef.from_dict(saved)
        decision = self.desk.tell(Progress(progress.trial, progress.attempt, checkpoint=ref), returned=True)
        if decision is Decision.CONTINUE:  # one that saves nothing begins anew, in a slot of its own
            return Decision.STOP if ref is None else Decision.PAUSE
        return decision

    def _progress(self, order: Any, word: Word, result: dict[str, Any], done: bool) -> Progress:
        if isinstance(order, Run):
            attempt = self.desk.attempt_of(order.trial, order.attempt)
            return Progress(
                order.trial, attempt, word.reports, word.checkpoint, done and not word.failure, word.failure
            )
        number, attempt = order[0], self.desk.attempt_of(*order)
        step = int(result["training_iteration"])
        metrics = {name: float(value) for name, value in result.items() if _is_metric(value)}
        # the trainable is not ours, and neither is its checkpoint: Tune keeps it with the paused slot
        return Progress(number, attempt, ((step, metrics),), CheckpointRef(step, "ray.tune", "", 0), done)

    def _let_go(self, trial: Any) -> None:
        """Forgets a slot that ended without its storage: what it held is given out again, and nobody is blamed."""
        order = trial.config[ORDER]
        if isinstance(order, Export):
            self.desk.let_go_of_export(trial.trial_id)
        else:
            self.desk.let_go(order.trial if isinstance(order, Run) else order[0])

    def _crashed(self, trial: Any, cause: str) -> Decision | None:
        order = trial.config[ORDER]
        if isinstance(order, Export):
            self.desk.export_ended(trial.trial_id, ExportResult(order.bundle, error=cause))
            return None
        number, attempt = (order.trial, order.attempt) if isinstance(order, Run) else order
        kind = "memory" if "memory" in cause else "crash"
        attempt = self.desk.attempt_of(number, attempt)
        self.desk.tell(Progress(number, attempt, failure=Failure(kind, cause, signature=f"{kind}: {cause[:80]}")))
        return None


_TUNE = {
    Decision.CONTINUE: str(TrialScheduler.CONTINUE),
    Decision.PAUSE: str(TrialScheduler.PAUSE),
    Decision.STOP: str(TrialScheduler.STOP),
}


def _is_metric(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class SlotTrainable(tune.Trainable):  # type: ignore[misc]
    """One trial in a slot and a process of its own; one Tune iteration is one step of resource."""

    def setup(self, config: dict[str, Any], workshop: Any = None) -> None:
        """Keeps the order; user code runs no earlier than in `step`, where its errors are caught."""
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        self._order: Run | Export = config[ORDER]
        self._workshop: Workshop = workshop
        if workshop.specification.serve is not None:
            stand_back()
        self._run: ActiveRun | None = None
        self._resume: CheckpointRef | None = None
        self._last: CheckpointRef | None = None

    def step(self) -> dict[str, Any]:
        """Works for one step and returns it, or makes the bundle that was ordered."""
        if isinstance(self._order, Export):
            return {"done": True, "value": 0.0, ORDER: Word(export=self._workshop.export(self._order))}
        try:
            run = self._opened(self._order)
            stretch = run.advance(run.step + 1, lambda: True)
            metric = self._workshop.specification.objective.metric
            reports = tuple((s, {metric if n == RETURNED else n: v for n, v in m.items()}) for s, m in stretch.reports)
            if stretch.done or self._is_milestone(self._order, run.step):
                self._last = self._saved(run, self._order)
                word = Word(reports, self._last)
            else:
                word = Word(reports)
        except Exception as error:  # the user's code: recorded with its traceback, the study goes on
            if is_outage(error):
                raise
            return {"done": True, "value": 0.0, ORDER: Word(failure=failure_of(error))}
        return {"done": stretch.done, "value": 0.0, ORDER: word}

    def _opened(self, order: Run) -> ActiveRun:
        if self._run is None:
            seed_globals(order.seed)
            checkpoint = self._resume or order.checkpoint
            self._run = self._workshop.open(
                Run(order.trial, order.attempt, order.params, order.seed, order.until, checkpoint)
            )
        return self._run

    def _is_milestone(self, order: Run, step: int) -> bool:
        return make_scheduler(self._workshop.specification.scheduler).milestone(order.trial, step - 1) == step

    def _saved(self, run: ActiveRun, order: Run) -> CheckpointRef | None:
        return self._workshop.checkpoints.publish(order.trial, run.step, run.save) if run.can_save else None

    def saved_now(self) -> dict[str, Any] | None:
        """Saves the trial where it is, and returns the reference; None where it saves nothing. Called between steps."""
        assert isinstance(self._order, Run)
        if self._run is not None and (self._last is None or self._last.step < self._run.step):
            self._last = self._saved(self._run, self._order)
        return None if self._last is None else self._last.to_dict()

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        """Returns the reference of the trial's own checkpoint, which Tune gives back when it resumes the slot."""
        return {"ref": self._last.to_dict() if self._last else None}

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Takes the reference; the state is loaded at the next step."""
        ref = (checkpoint or {}).get("ref")
        self._resume = CheckpointRef.from_dict(ref) if ref else None

    def cleanup(self) -> None:
        """Lets go of the trial."""
        if self._run is not None:
            self._run.close(Decision.STOP)


class SlotWatch(tune.Callback):  # type: ignore[misc]
    """Can end the slots of an experiment that the study gave up; user code may hold them for hours."""

    def __init__(self) -> None:
        self._life = ""
        self._trials: dict[str, Any] = {}

    def begin(self, life: str) -> None:
        """A new experiment begins."""
        self._life, self._trials = life, {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Remembers the slot."""
        self._trials[trial.trial_id] = trial

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The slot has ended."""
        self._trials.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The slot's process died."""
        self._trials.pop(trial.trial_id, None)

    def kill(self, workers: frozenset[str]) -> None:
        """Ends the slots' processes if their experiment is among those that were given up."""
        if self._life in workers:
            for trial in self._running():
                ray.kill(trial.temporary_state.ray_actor)
            self._trials = {}

    def running(self) -> int:
        """Returns how many slots run a trial now."""
        return len(self._running())

    def _running(self) -> list[Any]:
        known = list(self._trials.values())  # Tune's thread writes it
        return [trial for trial in known if trial.status == TuneTrial.RUNNING and trial.temporary_state.ray_actor]

    def workers(self) -> list[str]:
        """Returns no names: slots are not given back one by one."""
        return []


def run_native(
    study: StudyActor,
    workshop: Workshop,
    *,
    life: str,
    wanted: Callable[[], int],
    cpu: float,
    gpu: float,
    errors: list[str],
    watch: SlotWatch,
    room_name: Callable[[], str] = str,
) -> None:
    """Runs the study's trials, each in a slot of its own, until it ends; blocks.

    `wanted` says how many slots there is room for now; where more run, those that report first give way. `errors`
    receives hooks' faults; `room_name` gives each slot's placement group a name.
    """
    watch.begin(life)
    desk = SlotDesk(life, actor_port(study), wanted)
    desk.errors = errors
    trainable = tune.with_parameters(SlotTrainable, workshop=workshop)
    fit(
        trainable,
        searcher=StudySearcher(desk),
        scheduler=StudyScheduler(desk),
        callbacks=[watch],
        resources=resources_of(cpu, gpu),
        room_name=room_name,
    )

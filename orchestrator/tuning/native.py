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
from dataclasses import dataclass
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from orchestrator.domain.errors import ExchangeRefused
from orchestrator.domain.events import Reports
from orchestrator.domain.exchange import Answer, Export, ExportResult, Message, Progress, Run
from orchestrator.domain.trials import CheckpointRef, Decision, Failure
from orchestrator.schedulers import make_scheduler
from orchestrator.study import StudyKeeper
from orchestrator.tuning.failures import failure_of
from orchestrator.tuning.outage import is_outage
from orchestrator.tuning.pooled import cause_of, was_outage
from orchestrator.tuning.priority import stand_back
from orchestrator.tuning.runs import RETURNED, ActiveRun
from orchestrator.tuning.slots import StudyActor, actor_port, fit, resources_of
from orchestrator.tuning.tidiness import seed_globals
from orchestrator.tuning.worker import Port
from orchestrator.tuning.workshop import Workshop

ORDER = "_orchestrator"  # the key of a slot's order in its configuration, and of its word in a result


@dataclass(frozen=True, slots=True)
class Word:
    """What a slot says in a result; an object, because Tune flattens dictionaries before its hooks see them."""

    reports: Reports = ()
    checkpoint: CheckpointRef | None = None
    failure: Failure | None = None
    export: ExportResult | None = None


class SlotDesk:
    """Speaks for all slots of one Tune experiment. Used by Tune's controller thread alone."""

    def __init__(self, name: str, port: Port, slots: int, *, pass_order: bool = True) -> None:
        self.name = name
        self.slots = slots
        self.pass_order = pass_order
        self.errors: list[str] = []
        self.is_over = False
        self.metric, self.mode = "value", "max"  # what Tune looks for in a result; ours has its word beside it
        self._port = port
        self._epoch = 0
        self._held: dict[int, int] = {}  # trial -> attempt
        self._exporting: dict[str, str] = {}  # Tune's trial id -> bundle
        self._next: list[Run | Export] = []
        self.paused: dict[int, str] = {}  # trial -> Tune's trial id of the slot in which it was paused

    @classmethod
    def local(cls, keeper: StudyKeeper, slots: int = 1) -> "SlotDesk":
        """Returns the desk of a study in this process, for a trainable that knows nothing of studies."""
        desk = cls("tune", keeper.exchange, slots, pass_order=False)
        objective = keeper.study.specification.objective
        desk.metric, desk.mode = objective.metric, "max" if objective.maximize else "min"
        return desk

    def __getstate__(self) -> dict[str, Any]:
        # the Tuner pickles its hooks for a `Tuner.restore`, which a study has no use for: its journal is its memory
        return {name: value for name, value in self.__dict__.items() if name != "_port"} | {"_port": _nobody}

    def order(self) -> Run | Export | None:
        """Returns the study's next order without taking it; None while there is none, or no slot is free."""
        if not self._next and not self.is_over and len(self._held) + len(self._exporting) < self.slots:
            answer = self._say(room=len(self._held) + 1)
            self.is_over = self.is_over or answer.release
        return self._next[0] if self._next else None

    def take(self) -> None:
        """Takes the order that `order` returned."""
        order = self._next.pop(0)
        if isinstance(order, Run):
            self._held[order.trial] = order.attempt

    def tell(self, progress: Progress) -> Decision:
        """Tells what a slot reported and returns the decision about its trial."""
        verdict = self._say((progress,), room=0).verdicts.get(progress.trial)
        if verdict is None or verdict.decision is not Decision.CONTINUE:
            self._held.pop(progress.trial, None)
            return Decision.STOP if verdict is None else verdict.decision
        return Decision.CONTINUE

    def export_began(self, trial_id: str, bundle: str) -> None:
        """A slot makes a bundle."""
        self._exporting[trial_id] = bundle

    def export_ended(self, trial_id: str, result: ExportResult) -> None:
        """A slot made a bundle, or did not."""
        if self._exporting.pop(trial_id, None) is not None:
            self._say(exports=(result,), room=0)

    def let_go(self, trial: int) -> None:
        """No slot runs the trial any more, and the study has to give it out again."""
        self._held.pop(trial, None)

    def let_go_of_export(self, trial_id: str) -> None:
        """The same of the bundle that a slot made."""
        self._exporting.pop(trial_id, None)

    def attempt_of(self, trial: int, otherwise: int) -> int:
        """Returns the attempt that a slot runs of a trial: a resumed slot has the order of its first start."""
        return self._held.get(trial, otherwise)

    @property
    def is_idle(self) -> bool:
        """Whether no slot has anything in its hands."""
        return not self._held and not self._exporting and not self._next

    def _say(
        self, progress: tuple[Progress, ...] = (), exports: tuple[ExportResult, ...] = (), room: int = 0
    ) -> Answer:
        told = {p.trial for p in progress}
        waiting = {o.trial: o.attempt for o in self._next if isinstance(o, Run)}
        still = tuple(Progress(t, a) for t, a in (self._held | waiting).items() if t not in told)
        making = (*self._exporting.values(), *(o.bundle for o in self._next if isinstance(o, Export)))
        answer = self._port(Message(self.name, self._epoch, "", still + progress, exports, room, making=making))
        self._epoch = answer.epoch
        self._next += [*answer.runs, *answer.exports]
        if answer.fenced:  # whatever the slots hold is theirs no more; a further experiment goes on
            self.is_over = True
            self._held.clear()
            self._exporting.clear()
            self._next.clear()
        return answer


def _nobody(message: Message) -> Answer:
    raise ExchangeRefused("a study is not restored by Tune: make a new Tuner, and it goes on from its journal")


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
        if decision is Decision.PAUSE:
            self.desk.paused[progress.trial] = trial.trial_id
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
        self._actors: dict[str, Any] = {}

    def begin(self, life: str) -> None:
        """A new experiment begins."""
        self._life, self._actors = life, {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Remembers the slot's actor."""
        self._actors[trial.trial_id] = trial.temporary_state.ray_actor

    def kill(self, workers: frozenset[str]) -> None:
        """Ends the slots' processes if their experiment is among those that were given up."""
        if self._life in workers:
            while self._actors:
                ray.kill(self._actors.popitem()[1])

    def running(self) -> int:
        """Returns how many slots run a trial now."""
        return len(self._actors)

    def workers(self) -> list[str]:
        """Returns no names: slots are not given back one by one."""
        return []


def run_native(
    study: StudyActor,
    workshop: Workshop,
    *,
    life: str,
    slots: int,
    cpu: float,
    gpu: float,
    errors: list[str],
    watch: SlotWatch,
    room_name: Callable[[], str] = str,
) -> None:
    """Runs the study's trials, each in a slot of its own, until it ends; blocks.

    `errors` receives hooks' faults; `room_name` gives each slot's placement group a name.
    """
    watch.begin(life)
    desk = SlotDesk(life, actor_port(study), slots)
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

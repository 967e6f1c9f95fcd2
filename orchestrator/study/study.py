"""The study decides: messages and ticks in, events and answers out.

Nothing here opens a file, sleeps or reads a clock. Each public method returns the events that it caused; they are
applied already, and its caller must have them in the journal before it acts on the answer. One writer at a time: the
study actor, or the process at hand where a study runs inline.
"""

import math
from collections.abc import Mapping
from typing import Any

from orchestrator.domain.errors import ExchangeRefused, did_you_mean
from orchestrator.domain.events import (
    BaselineMeasured,
    Checkpointed,
    Created,
    Decided,
    Ended,
    Ending,
    Event,
    Exported,
    ExportFailed,
    Exporting,
    Failed,
    Finished,
    Interrupted,
    Opened,
    Promoted,
    Rejected,
    Reopened,
    Reported,
    Started,
    Suggested,
)
from orchestrator.domain.exchange import Answer, Export, ExportResult, Message, Progress, Run, Verdict
from orchestrator.domain.seeds import derive_seed
from orchestrator.domain.space import Configuration
from orchestrator.domain.specification import StudySpecification
from orchestrator.domain.trials import Decision, Failure, TrialState
from orchestrator.schedulers.port import Scheduler
from orchestrator.search.port import Suggester
from orchestrator.study.promotion import REFERENCE, awaiting_promotion, next_export
from orchestrator.study.state import CRASHES, BundleState, Phase, StudyState
from orchestrator.study.trial import Trial

DEFAULT_TRIALS = 100  # where a study names no budget at all
WAIT_SECONDS = 0.05  # a worker without work asks again after this
HOST_SECONDS = 10.0  # a host that gives no sign of life for so long is dead
GRACE_SECONDS = 15.0  # for the steps that run when the time is over
BATCH = 32  # trials a worker may hold at once, where each takes next to no time


class Study:
    """One optimisation: its state, and the decisions about it."""

    def __init__(self, specification: StudySpecification, suggester: Suggester, scheduler: Scheduler) -> None:
        self.state = StudyState(specification, suggester, scheduler)
        self.workers = 1  # how many run side by side, as far as the edge knows
        self._fenced: set[str] = set()
        self._hosts: dict[str, str] = {}  # worker -> the host from which it last spoke
        self._beats: dict[str, float] = {}  # host -> its last sign of life
        self._events: list[Event] = []

    @property
    def specification(self) -> StudySpecification:
        """What was asked for."""
        return self.state.specification

    # --- life of the study -------------------------------------------------------------------------------------

    def create(
        self, now: float, *, defaults: Mapping[str, Any] | None, code_sha256: str, versions: Mapping[str, str]
    ) -> list[Event]:
        """Records what was asked for; `defaults` become trial 0, as near as the space lets them."""
        whole = None if defaults is None else self.specification.space.nearest(defaults)
        self._emit(Created(now, self.specification.to_dict(), whole, code_sha256, versions))
        return self._take()

    def open(self, now: float, *, epoch: int, writer: str, address: str = "") -> list[Event]:
        """Records that a writer took over."""
        self._emit(Opened(now, epoch, writer, address))
        return self._take()

    def measured(self, now: float, *, baseline: float | None, data_sha256: str) -> list[Event]:
        """Records the trivial predictor's value, once; the same again changes nothing."""
        if (self.state.baseline, self.state.data_sha256) != (baseline, data_sha256):
            self._emit(BaselineMeasured(now, baseline, data_sha256))
        return self._take()

    def stop(self, now: float, reason: str = "stopped") -> list[Event]:
        """Begins no more trials; those that run are sent away at their next word."""
        self._begin_ending(now, reason)
        self._end_if_done(now)
        return self._take()

    def reopen(self, now: float) -> list[Event]:
        """Goes on with a study that was ended by hand; one that is running, or came to its own end, is left alone."""
        state, budget = self.state, self.specification.budget
        if state.phase is not Phase.RUNNING and state.reason in ("stopped", "failing"):
            self._emit(Reopened(now, budget.trials, budget.seconds))
        return self._take()

    def tick(self, now: float) -> list[Event]:
        """Looks at the clocks: the budget of time, and trials that say nothing for too long."""
        budget = self.specification.budget.seconds
        if budget is not None and self.state.seconds_used(now) >= budget:
            self._begin_ending(now, "time")
        limit = self.specification.timeout_seconds
        if limit is not None:
            silent = [t for t in self._running() if now - t.heard_at > limit]
            for trial in silent:
                self._fenced.add(trial.worker)
                message = f"trial {trial.number} said nothing for {now - trial.heard_at:.0f} s (timeout: {limit:.0f} s)"
                self._fail(now, trial, Failure("timeout", message, signature="timeout"))
        ending_at = self.state.ending_at
        if ending_at is not None and now - ending_at > GRACE_SECONDS:
            self._send_away(now)
        for host in [host for host, at in self._beats.items() if now - at > HOST_SECONDS]:
            self._lose_host(host, now)
        self._end_if_done(now)
        return self._take()

    def beat(self, host: str, now: float) -> None:
        """Takes a sign of life of a host, sent by a process that runs no user code."""
        self._beats[host] = now

    def _lose_host(self, host: str, now: float) -> None:
        """Takes back what the workers of a silent host held; a lost host costs no attempt."""
        silent = now - self._beats.pop(host)
        for worker in [worker for worker, where in self._hosts.items() if where == host]:
            self._release(worker, now, f"host {host} gave no sign of life for {silent:.0f} s", blame=False)

    def _send_away(self, now: float) -> None:
        """Takes back the trials whose workers did not come back with them after the end: a step may last for hours."""
        for trial in self._running():
            self._fenced.add(trial.worker)
            self._emit(Interrupted(now, trial.number, f"still at a step {GRACE_SECONDS:.0f} s after the study's end"))

    # --- workers -----------------------------------------------------------------------------------------------

    def exchange(self, message: Message, now: float) -> tuple[list[Event], Answer]:
        """Takes a worker's word and answers it; the same message again gets the same answer.

        Raises:
            ExchangeRefused: the worker has heard of a later writer than this one.
        """
        state = self.state
        if message.epoch > state.epoch:
            raise ExchangeRefused(f"epoch {state.epoch} of the study is over; epoch {message.epoch} has begun")
        if message.worker in self._fenced:
            return self._take(), Answer(state.epoch, fenced=True)
        self._hosts[message.worker] = message.host
        verdicts = {progress.trial: self._hear(message.worker, progress, now) for progress in message.progress}
        for result in message.exports:
            self._export_ended(result, now)
        kept = sum(verdict.decision is Decision.CONTINUE for verdict in verdicts.values())
        room = message.room - kept
        if state.phase is Phase.RUNNING and room > 0 and not self._has_work():
            self._begin_ending(now, "finished")
        runs = self._lost_orders(message)
        exports: list[Export] = []
        for _ in range(room - len(runs)):
            export = self._order_export(message.worker, now)
            if export is not None:
                exports.append(export)
                break
            run = self._order_run(message.worker, now)
            if run is None:
                break
            runs.append(run)
        self._end_if_done(now)
        idle = not runs and not exports and kept == 0 and room > 0
        over = state.phase is not Phase.RUNNING and self._is_all_exported()
        answer = Answer(
            state.epoch,
            verdicts,
            tuple(runs),
            tuple(exports),
            release=idle and over,
            wait_seconds=WAIT_SECONDS if idle and not over else 0.0,
            batch=BATCH if self.workers > 1 else 1,
        )
        return self._take(), answer

    def worker_lost(self, worker: str, now: float, *, cause: str, blame: bool) -> list[Event]:
        """Fences a worker that is gone. With `blame` its death counts as a failed attempt of each trial it ran."""
        self._release(worker, now, cause, blame=blame)
        self._end_if_done(now)
        return self._take()

    def _release(self, worker: str, now: float, cause: str, *, blame: bool) -> None:
        self._fenced.add(worker)
        self._hosts.pop(worker, None)
        for number in sorted(self.state.held.get(worker, ())):
            trial = self.state.trials[number]
            if blame:
                kind = "memory" if "memory" in cause.lower() else "crash"
                failure = Failure(kind, f"worker {worker} died: {cause}", signature=f"{kind}: {cause[:80]}")
                self._fail(now, trial, failure)
            else:
                self._emit(Interrupted(now, number, cause))
        for record in list(self.state.bundles.values()):
            if record.state is BundleState.EXPORTING and record.worker == worker:
                self._emit(ExportFailed(now, record.bundle, cause, lost=True))

    def all_workers_lost(self, now: float, cause: str) -> list[Event]:
        """Takes back whatever earlier workers held, blaming nobody: their runner is gone, and they with it."""
        events: list[Event] = []
        holders = {worker for worker, trials in self.state.held.items() if trials}
        holders |= {r.worker for r in self.state.bundles.values() if r.state is BundleState.EXPORTING}
        for worker in sorted(holders):
            events += self.worker_lost(worker, now, cause=cause, blame=False)
        return events

    @property
    def fenced(self) -> frozenset[str]:
        """The workers whose time is over; whoever can should end their processes."""
        return frozenset(self._fenced)

    def is_waiting_for_workers(self) -> bool:
        """Whether workers are needed: there are trials to run or bundles to make."""
        if self.state.phase is Phase.ENDED:
            return False
        return self.state.phase is Phase.RUNNING or not self._is_all_exported()

    # --- promotion ---------------------------------------------------------------------------------------------

    def challenger(self) -> Mapping[str, Any] | None:
        """Returns the bundle that should be promoted now: {"bundle", "uri", "trial", "step", "value"}, or None."""
        bundle = awaiting_promotion(self.state)
        if bundle is None:
            return None
        record = self.state.bundles[bundle]
        return {
            "bundle": bundle,
            "uri": record.uri,
            "trial": record.trial,
            "step": record.step,
            "value": record.value,
        }

    def promoted(self, bundle: str, version: str, now: float) -> list[Event]:
        """Records that the endpoint answers with the bundle; the same again changes nothing."""
        if self.state.bundles[bundle].state is BundleState.EXPORTED:
            self._emit(Promoted(now, bundle, version))
        self._end_if_done(now)
        return self._take()

    def rejected(self, bundle: str, reason: str, now: float) -> list[Event]:
        """Records that the bundle will not be the champion."""
        if self.state.bundles[bundle].state is BundleState.EXPORTED:
            self._emit(Rejected(now, bundle, reason))
        self._end_if_done(now)
        return self._take()

    # --- hearing -----------------------------------------------------------------------------------------------

    def _hear(self, worker: str, progress: Progress, now: float) -> Verdict:
        trial = self.state.trials[progress.trial]
        if not trial.is_held_by(worker, progress.attempt):
            # told before, or not this worker's any more: whichever it is, it must let go of the trial
            return Verdict(Decision.PAUSE if trial.state is TrialState.PAUSED else Decision.STOP, trial.until)
        failure = self._record(trial, progress, now)
        if failure is not None:
            self._fail(now, trial, failure)
            return Verdict(Decision.STOP, trial.until)
        if progress.done:
            self._emit(Finished(now, trial.number))
            return Verdict(Decision.STOP, trial.until)
        return self._decide(trial, now)

    def _record(self, trial: Trial, progress: Progress, now: float) -> Failure | None:
        """Records what is new in the worker's word; returns why the attempt failed, if it did."""
        fresh = [(step, metrics) for step, metrics in progress.reports if step > trial.last_step]
        problem = None if progress.failure else self._metric_problem(fresh)
        if fresh and problem is None:
            self._emit(Reported(now, trial.number, fresh))
        known = trial.checkpoint
        if (
            progress.checkpoint is not None
            and problem is None
            and (known is None or progress.checkpoint.step > known.step)
        ):
            self._emit(Checkpointed(now, trial.number, progress.checkpoint))
        return progress.failure or problem

    def _metric_problem(self, reports: list[tuple[int, Mapping[str, float]]]) -> Failure | None:
        metric = self.specification.objective.metric
        for step, metrics in reports:
            value = metrics.get(metric)
            if value is None:
                message = (
                    f"the trainable reports no '{metric}' at step {step}; it reports: "
                    f"{', '.join(metrics) or 'nothing'}.{did_you_mean(metric, metrics)}"
                )
                return Failure("metric", message, signature=MISSING_METRIC)
            if not math.isfinite(value):
                return Failure("metric", f"{metric} was {value} at step {step}", signature=f"{metric} not finite")
        return None

    def _decide(self, trial: Trial, now: float) -> Verdict:
        step = trial.last_step
        if step == trial.until:
            decision = self.state.scheduler.judge(trial.number, step)
            if step >= self.specification.scheduler.max:
                self._emit(Finished(now, trial.number))
                return Verdict(Decision.STOP, trial.until)
            if trial.origin == "default":  # the yardstick is measured to its end
                decision = Decision.CONTINUE
        elif self.state.phase is Phase.RUNNING:
            return Verdict(Decision.CONTINUE, trial.until)
        else:
            decision = Decision.PAUSE
        if self.state.phase is not Phase.RUNNING and decision is Decision.CONTINUE:
            decision = Decision.PAUSE
        if decision is Decision.PAUSE and trial.checkpoint is None:
            # a trial that saves nothing cannot wait; it may be good enough to go on, else it ends here
            decision = Decision.STOP
        self._emit(Decided(now, trial.number, step, decision))
        return Verdict(decision, trial.until)

    def _fail(self, now: float, trial: Trial, failure: Failure) -> None:
        policy = self.specification.failures
        crashed = failure.cause in CRASHES
        earlier = trial.crashes if crashed else len(trial.failures) - trial.crashes
        retry = earlier < (policy.crashes if crashed else policy.errors) and failure.signature != MISSING_METRIC
        self._emit(Failed(now, trial.number, trial.attempt, failure, retry))
        alike = len(set(self.state.failures[failure.signature]))
        if self.state.successes == 0 and (alike >= policy.alike or failure.signature == MISSING_METRIC):
            self._begin_ending(now, "failing")

    # --- orders ------------------------------------------------------------------------------------------------

    def _lost_orders(self, message: Message) -> list[Run]:
        """Returns again the orders that the worker was given and does not mention: the answer got lost."""
        held = self.state.held.get(message.worker)
        if not held:
            return []
        mentioned = {(progress.trial, progress.attempt) for progress in message.progress}
        missing = [number for number in sorted(held) if (number, self.state.trials[number].attempt) not in mentioned]
        return [self._run(self.state.trials[number]) for number in missing]

    def _has_work(self) -> bool:
        state = self.state
        return bool(
            state.requeued
            or state.counts[TrialState.RUNNING]
            or state.counts[TrialState.WAITING]
            or len(state.trials) < self._trial_budget()
            or state.scheduler.promotable()
        )

    def _trial_budget(self) -> float:
        budget = self.specification.budget
        if budget.trials is not None:
            return budget.trials
        return DEFAULT_TRIALS if budget.seconds is None else math.inf

    def _order_run(self, worker: str, now: float) -> Run | None:
        trial = self._next_trial(now)
        if trial is None:
            return None
        attempt = trial.attempt + 1 if trial.state is TrialState.FAILED else trial.attempt
        step = trial.checkpoint.step if trial.checkpoint else 0
        self._emit(Started(now, trial.number, attempt, worker, step))
        return self._run(trial)

    def _next_trial(self, now: float) -> Trial | None:
        state = self.state
        if state.phase is not Phase.RUNNING:
            return None
        if state.requeued:
            return state.trials[state.requeued[0]]
        promotable = state.scheduler.promotable()
        if promotable is not None:
            return state.trials[promotable[0]]
        if state.counts[TrialState.WAITING]:
            return next(trial for trial in state.trials if trial.state is TrialState.WAITING)
        if len(state.trials) < self._trial_budget():
            return self._suggest(now)
        return None

    def _suggest(self, now: float) -> Trial:
        number = len(self.state.trials)
        created = self.state.created
        if number == 0 and created is not None and created.defaults is not None:
            self._emit(Suggested(now, number, created.defaults, "default"))
        else:
            self._emit(Suggested(now, number, self.state.suggester.suggest(number), "search"))
        return self.state.trials[number]

    def enqueue(self, params: Configuration, now: float) -> list[Event]:
        """Adds a trial with the user's own configuration, completed by the middles of the space."""
        whole = self.specification.space.complete(params)
        self._emit(Suggested(now, len(self.state.trials), whole, "user"))
        return self._take()

    def _run(self, trial: Trial) -> Run:
        seed = derive_seed(self.specification.seed, trial.number, "train")
        return Run(trial.number, trial.attempt, trial.params, seed, trial.until, trial.checkpoint, trial.last_step)

    def _order_export(self, worker: str, now: float) -> Export | None:
        candidate = next_export(self.state)
        if candidate is None:
            return None
        trial, checkpoint = candidate.trial, candidate.checkpoint
        self._emit(Exporting(now, trial.number, checkpoint.step, candidate.bundle, candidate.purpose, worker))
        seed = derive_seed(self.specification.seed, trial.number, "train")
        return Export(candidate.bundle, trial.number, trial.params, seed, checkpoint, trial.value)

    def _export_ended(self, result: ExportResult, now: float) -> None:
        record = self.state.bundles.get(result.bundle)
        if record is None or record.state is not BundleState.EXPORTING:
            return
        if result.error:
            self._emit(ExportFailed(now, result.bundle, result.error, lost=False))
            return
        self._emit(Exported(now, result.bundle, result.uri))
        if record.purpose == REFERENCE:
            self._emit(Rejected(now, result.bundle, "a reference is measured, not served"))

    # --- the end -----------------------------------------------------------------------------------------------

    def _running(self) -> list[Trial]:
        return [self.state.trials[number] for numbers in self.state.held.values() for number in sorted(numbers)]

    def _begin_ending(self, now: float, reason: str) -> None:
        if self.state.phase is Phase.RUNNING:
            self._emit(Ending(now, reason))

    def _is_all_exported(self) -> bool:
        """Whether the workers are not needed any more once the study is ending."""
        state = self.state
        open_bundle = state.open_bundle()
        return state.counts[TrialState.RUNNING] == 0 and open_bundle is None and next_export(state) is None

    def _end_if_done(self, now: float) -> None:
        if self.state.phase is Phase.ENDING and self._is_all_exported():
            self._emit(Ended(now))

    def _emit(self, event: Event) -> None:
        self.state.apply(event)
        self._events.append(event)

    def _take(self) -> list[Event]:
        events, self._events = self._events, []
        return events


MISSING_METRIC = "the metric is never reported"
"""The signature of a failure that every trial would repeat."""

"""The state of a study: the fold over its events.

`StudyState.apply` is the only place where it changes, live and at a replay alike, so that both give the same. The
suggester and the scheduler are part of the state: they are told everything here, in the order of the events.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

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
from orchestrator.domain.specification import Budget, StudySpecification
from orchestrator.domain.trials import Decision, TrialState
from orchestrator.schedulers.port import Scheduler
from orchestrator.search.port import Suggester
from orchestrator.study.transitions import next_state
from orchestrator.study.trial import Trial


class Phase(StrEnum):
    """Where a study stands."""

    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


class BundleState(StrEnum):
    """Where a bundle stands on its way to the endpoint."""

    EXPORTING = "exporting"
    EXPORTED = "exported"
    PROMOTED = "promoted"
    REJECTED = "rejected"


@dataclass(slots=True)
class BundleRecord:
    """A bundle that was ordered."""

    bundle: str
    trial: int
    step: int
    value: float | None
    purpose: str
    worker: str
    state: BundleState = BundleState.EXPORTING
    uri: str = ""
    version: str = ""
    reason: str = ""
    at: float = 0.0


class StudyState:
    """What a study's events add up to. One writer: the `Study` that owns it."""

    def __init__(self, specification: StudySpecification, suggester: Suggester, scheduler: Scheduler) -> None:
        self.specification = specification
        self.suggester = suggester
        self.scheduler = scheduler
        self.created: Created | None = None
        self.epoch = 0
        self.address = ""
        self.phase = Phase.RUNNING
        self.reason = ""
        self.ending_at: float | None = None
        self.trials: list[Trial] = []
        self.counts = dict.fromkeys(TrialState, 0)
        self.requeued: list[int] = []  # interrupted or to be retried; they go first
        self.held: dict[str, set[int]] = {}  # worker -> trials that it runs
        self.best: Trial | None = None
        self.baseline: float | None = None
        self.data_sha256 = ""
        self.bundles: dict[str, BundleRecord] = {}
        self.champion: BundleRecord | None = None
        self.promotions = 0
        self.successes = 0  # trials with at least one value
        self.failures: dict[str, list[int]] = {}  # signature -> trials
        self._opened_at = 0.0
        self._last_at = 0.0
        self._earlier_seconds = 0.0

    def apply(self, event: Event) -> None:
        """Takes one event into the state.

        Raises:
            InvalidTransition: nothing of the kind can happen now.
        """
        _APPLY[type(event)](self, event)
        self._last_at = max(self._last_at, event.at)

    def seconds_used(self, now: float | None = None) -> float:
        """Returns how long the study has run, over all its lives; up to the last event, or up to `now`."""
        if not self._opened_at:
            return 0.0
        until = self._last_at if now is None or self.phase is Phase.ENDED else max(now, self._last_at)
        return self._earlier_seconds + max(0.0, until - self._opened_at)

    def open_bundle(self) -> BundleRecord | None:
        """Returns the one bundle that is neither promoted nor rejected yet."""
        for record in reversed(self.bundles.values()):
            if record.state in (BundleState.EXPORTING, BundleState.EXPORTED):
                return record
        return None

    def _move(self, trial: Trial, happened: str) -> None:
        state = next_state(trial.state, happened, trial.number)
        if state is trial.state:
            return
        self.counts[trial.state] -= 1
        self.counts[state] += 1
        trial.state = state
        if state is not TrialState.RUNNING:
            self.held.get(trial.worker, set()).discard(trial.number)

    def _created(self, event: Created) -> None:
        self.created = event

    def _opened(self, event: Opened) -> None:
        if self._opened_at:
            self._earlier_seconds = self.seconds_used()
        self.epoch, self.address = event.epoch, event.address
        self._opened_at = self._last_at = event.at

    def _baseline(self, event: BaselineMeasured) -> None:
        self.baseline, self.data_sha256 = event.value, event.data_sha256

    def _suggested(self, event: Suggested) -> None:
        assert event.trial == len(self.trials), "trials are numbered in the order of their suggestion"
        self.trials.append(Trial(event.trial, event.params, event.origin, event.at))
        self.counts[TrialState.WAITING] += 1
        self.suggester.started(event.trial, event.params)

    def _started(self, event: Started) -> None:
        trial = self.trials[event.trial]
        was_paused = trial.state is TrialState.PAUSED
        self._move(trial, "started")
        if trial.number in self.requeued:
            self.requeued.remove(trial.number)
        elif was_paused:
            self.scheduler.resumed(trial.number)
        if was_paused:
            self.suggester.started(trial.number, trial.params)
        trial.attempt, trial.worker, trial.heard_at = event.attempt, event.worker, event.at
        trial.until = self.scheduler.milestone(trial.number, trial.last_step)
        self.held.setdefault(event.worker, set()).add(trial.number)

    def _reported(self, event: Reported) -> None:
        trial = self.trials[event.trial]
        self._move(trial, "reported")
        trial.reports.extend(event.reports)
        trial.heard_at = event.at
        if trial.last_step == trial.until:
            self._observe(trial)
            self.scheduler.recorded(trial.number, trial.last_step, self._loss(trial))

    def _checkpointed(self, event: Checkpointed) -> None:
        trial = self.trials[event.trial]
        self._move(trial, "checkpointed")
        trial.checkpoint = event.checkpoint

    def _decided(self, event: Decided) -> None:
        trial = self.trials[event.trial]
        self._move(trial, _HAPPENED[event.decision])
        self._value_of(trial)
        if event.step < trial.until:  # sent away between two milestones: nothing was judged
            if event.decision is Decision.PAUSE:
                self.requeued.append(trial.number)
        else:
            self.scheduler.decided(trial.number, event.step, event.decision)
            trial.until = self.scheduler.milestone(trial.number, event.step)
        if event.decision is not Decision.CONTINUE:
            self.suggester.ended(trial.number, failed=False)
        if event.decision is Decision.STOP:
            self._over(trial, event.at)

    def _finished(self, event: Finished) -> None:
        trial = self.trials[event.trial]
        self._move(trial, "finished")
        if trial.last_step and trial.last_step != trial.until:
            self._observe(trial)
        self._value_of(trial)
        self.suggester.ended(trial.number, failed=False)
        self._over(trial, event.at)

    def _failed(self, event: Failed) -> None:
        trial = self.trials[event.trial]
        self._move(trial, "failed" if event.retry else "given up")
        trial.failures.append(event.failure)
        trial.crashes += event.failure.cause in CRASHES
        self.failures.setdefault(event.failure.signature, []).append(trial.number)
        if event.retry:
            self.requeued.append(trial.number)
        else:
            self.suggester.ended(trial.number, failed=True)
            self._over(trial, event.at)

    def _interrupted(self, event: Interrupted) -> None:
        trial = self.trials[event.trial]
        self._move(trial, "interrupted, checkpoint" if trial.checkpoint else "interrupted, none")
        self.requeued.append(trial.number)

    def _exporting(self, event: Exporting) -> None:
        trial = self.trials[event.trial]
        self.bundles[event.bundle] = BundleRecord(
            event.bundle, event.trial, event.step, trial.value, event.purpose, event.worker, at=event.at
        )

    def _exported(self, event: Exported) -> None:
        record = self.bundles[event.bundle]
        record.state, record.uri = BundleState.EXPORTED, event.uri

    def _export_failed(self, event: ExportFailed) -> None:
        if event.lost:
            del self.bundles[event.bundle]
        else:
            self.bundles[event.bundle].state = BundleState.REJECTED
            self.bundles[event.bundle].reason = event.message

    def _promoted(self, event: Promoted) -> None:
        record = self.bundles[event.bundle]
        record.state, record.version, record.at = BundleState.PROMOTED, event.version, event.at
        self.champion = record
        self.promotions += 1

    def _rejected(self, event: Rejected) -> None:
        self.bundles[event.bundle].state = BundleState.REJECTED
        self.bundles[event.bundle].reason = event.reason

    def _ending(self, event: Ending) -> None:
        self.phase, self.reason, self.ending_at = Phase.ENDING, event.reason, event.at

    def _ended(self, event: Ended) -> None:
        self.phase = Phase.ENDED

    def _reopened(self, event: Reopened) -> None:
        self.phase, self.reason, self.ending_at = Phase.RUNNING, "", None
        budget = Budget(event.trials, event.seconds)
        self.specification = self.specification.with_changes(budget=budget)

    def _loss(self, trial: Trial) -> float:
        objective = self.specification.objective
        return objective.loss(trial.last_metrics.get(objective.metric, float("nan")))

    def _observe(self, trial: Trial) -> None:
        self.suggester.observed(trial.number, trial.last_step, self._loss(trial))

    def _value_of(self, trial: Trial) -> None:
        had_none = trial.value is None
        trial.judge(self.specification.objective)
        if trial.value is None:
            return
        self.successes += had_none
        if self.specification.objective.is_better(trial.value, self.best.value if self.best else None):
            self.best = trial

    def _over(self, trial: Trial, at: float) -> None:
        trial.ended_at = at
        self.scheduler.ended(trial.number)


CRASHES = ("crash", "memory", "timeout")
"""Causes after which the worker is gone too."""

_HAPPENED = {Decision.CONTINUE: "continued", Decision.PAUSE: "paused", Decision.STOP: "stopped"}

_APPLY: dict[type[Event], Callable[[StudyState, Any], None]] = {
    Created: StudyState._created,
    Opened: StudyState._opened,
    BaselineMeasured: StudyState._baseline,
    Suggested: StudyState._suggested,
    Started: StudyState._started,
    Reported: StudyState._reported,
    Checkpointed: StudyState._checkpointed,
    Decided: StudyState._decided,
    Finished: StudyState._finished,
    Failed: StudyState._failed,
    Interrupted: StudyState._interrupted,
    Exporting: StudyState._exporting,
    Exported: StudyState._exported,
    ExportFailed: StudyState._export_failed,
    Promoted: StudyState._promoted,
    Rejected: StudyState._rejected,
    Ending: StudyState._ending,
    Ended: StudyState._ended,
    Reopened: StudyState._reopened,
}

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
    Extended,
    Failed,
    Finished,
    Interrupted,
    Opened,
    Promoted,
    Rejected,
    Reopened,
    Reported,
    RolledBack,
    Started,
    Suggested,
)
from orchestrator.domain.ranking import Ranking
from orchestrator.domain.space import Space
from orchestrator.domain.specification import Budget, StudySpecification
from orchestrator.domain.trials import Decision, TrialState
from orchestrator.schedulers.port import Scheduler
from orchestrator.search.port import Suggester
from orchestrator.study.bundles import CHALLENGER, BundleRecord, BundleState
from orchestrator.study.transitions import next_state
from orchestrator.study.trial import Trial


class Phase(StrEnum):
    """Where a study stands."""

    RUNNING = "running"
    ENDING = "ending"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class SpaceHeld:
    """A space that the study had from a time on: the trials from `first_trial` on came from it, until the next one."""

    at: float
    first_trial: int
    space: Space


class StudyState:
    """What a study's events add up to. One writer: the `Study` that owns it."""

    def __init__(self, specification: StudySpecification, suggester: Suggester, scheduler: Scheduler) -> None:
        self.specification = specification
        self.suggester = suggester
        self.scheduler = scheduler
        self.created: Created | None = None
        self.spaces: list[SpaceHeld] = []  # the one it was created with, and each wider one
        self.extended_to: Budget | None = None  # the last that `extend` gave it
        self.epoch = 0
        self.address = ""
        self.phase = Phase.RUNNING
        self.reason = ""
        self.ending_at: float | None = None
        self.trials: list[Trial] = []
        self.counts = dict.fromkeys(TrialState, 0)
        self.requeued: list[int] = []  # interrupted or to be retried; they go first
        self.waiting: list[int] = []  # suggested and never begun
        self.held: dict[str, set[int]] = {}  # worker -> trials that it runs
        self.best: Trial | None = None
        self.baseline: float | None = None
        self.data_sha256 = ""
        self.bundles: dict[str, BundleRecord] = {}
        self.lost_exports: dict[str, int] = {}  # bundle -> how often its worker died over it
        self.champion: BundleRecord | None = None
        self.ranking = Ranking()  # of (loss, trial) whose best checkpoint nobody exported
        self.promotions = 0
        self.successes = 0  # trials with at least one value
        self.failures: dict[str, list[int]] = {}  # signature -> trials
        self.opened_at: float | None = None  # when this life began
        self._ranked: dict[int, tuple[float, int]] = {}  # trial -> its entry in the ranking
        self._open_bundle: BundleRecord | None = None
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
        if self.opened_at is None:
            return 0.0
        until = self._last_at if now is None or self.phase is Phase.ENDED else max(now, self._last_at)
        return self._earlier_seconds + max(0.0, until - self.opened_at)

    def open_bundle(self) -> BundleRecord | None:
        """Returns the one bundle that is neither promoted nor rejected yet."""
        return self._open_bundle

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
        # budgets may change between lives: what counts is what the journal says last
        self._set_budget(Budget.from_dict(event.specification["budget"]))
        self.spaces.append(SpaceHeld(event.at, 0, self.specification.space))

    def _opened(self, event: Opened) -> None:
        self._earlier_seconds = self.seconds_used()
        self.epoch, self.address = event.epoch, event.address
        self.opened_at = self._last_at = event.at
        # while the study was away nobody could speak, and its clock may have been set
        for number in {number for numbers in self.held.values() for number in numbers}:
            self.trials[number].heard_at = event.at
        if self.ending_at is not None:
            self.ending_at = event.at

    def _set_budget(self, budget: Budget) -> None:
        self.specification = self.specification.with_changes(budget=budget)

    def _baseline(self, event: BaselineMeasured) -> None:
        self.baseline, self.data_sha256 = event.value, event.data_sha256

    def _suggested(self, event: Suggested) -> None:
        assert event.trial == len(self.trials), "trials are numbered in the order of their suggestion"
        self.trials.append(Trial(event.trial, event.params, event.origin, event.at))
        self.counts[TrialState.WAITING] += 1
        self.waiting.append(event.trial)
        self.suggester.started(event.trial, event.params)

    def _started(self, event: Started) -> None:
        trial = self.trials[event.trial]
        was_paused = trial.state is TrialState.PAUSED
        self._move(trial, "started")
        if trial.number in self.requeued:
            self.requeued.remove(trial.number)
        elif trial.number in self.waiting:
            self.waiting.remove(trial.number)
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
        was_below = trial.last_step < trial.until
        trial.reports.extend(event.reports)
        trial.heard_at = event.at
        if was_below and trial.last_step >= trial.until:  # a function may report every tenth step only
            self._observe(trial)
            self.scheduler.recorded(trial.number, trial.until, self._loss(trial))

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
            self.scheduler.decided(trial.number, trial.until, event.decision)
            trial.until = self.scheduler.milestone(trial.number, event.step)
        if event.decision is not Decision.CONTINUE:
            self.suggester.ended(trial.number, failed=False)
        if event.decision is Decision.STOP:
            self._over(trial, event.at)

    def _finished(self, event: Finished) -> None:
        trial = self.trials[event.trial]
        self._move(trial, "finished")
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
        assert self._open_bundle is None, "one bundle at a time"
        trial = self.trials[event.trial]
        checkpoint = trial.best_checkpoint
        assert checkpoint is not None, "there is nothing to export"
        self.bundles[event.bundle] = self._open_bundle = BundleRecord(
            event.bundle, event.trial, checkpoint, trial.value, event.purpose, event.worker, at=event.at
        )
        if event.purpose == CHALLENGER:
            self._unrank(trial)

    def _exported(self, event: Exported) -> None:
        record = self.bundles[event.bundle]
        record.state, record.uri = BundleState.EXPORTED, event.uri

    def _export_failed(self, event: ExportFailed) -> None:
        record = self.bundles[event.bundle]
        self._open_bundle = None
        if not event.lost:
            record.state, record.reason = BundleState.REJECTED, event.message
            return
        del self.bundles[event.bundle]
        self.lost_exports[event.bundle] = self.lost_exports.get(event.bundle, 0) + 1
        trial = self.trials[record.trial]
        if record.purpose == CHALLENGER and trial.value_step == record.step:
            self._rank(trial)

    def _promoted(self, event: Promoted) -> None:
        record = self.bundles[event.bundle]
        record.state, record.version, record.at = BundleState.PROMOTED, event.version, event.at
        self.champion = record
        self.promotions += 1
        self._open_bundle = None

    def _rejected(self, event: Rejected) -> None:
        record = self.bundles[event.bundle]
        record.state, record.reason = BundleState.REJECTED, event.reason
        self._open_bundle = None

    def _rolled_back(self, event: RolledBack) -> None:
        if self.champion is not None:
            self.champion.state, self.champion.reason = BundleState.REJECTED, "rolled back"
        earlier = [record for record in self.bundles.values() if record.version == event.version]
        self.champion = earlier[-1] if earlier else None

    def _ending(self, event: Ending) -> None:
        self.phase, self.reason, self.ending_at = Phase.ENDING, event.reason, event.at

    def _ended(self, event: Ended) -> None:
        self.phase = Phase.ENDED

    def _reopened(self, event: Reopened) -> None:
        if self.phase is Phase.ENDED:  # the time between the end and now is nobody's
            self._earlier_seconds, self.opened_at = self.seconds_used(), event.at
        self.phase, self.reason, self.ending_at = Phase.RUNNING, "", None
        self._set_budget(Budget(event.trials, event.seconds))

    def _extended(self, event: Extended) -> None:
        budget = Budget(event.trials, event.seconds)
        if budget != self.specification.budget:
            self.extended_to = budget
            self._set_budget(budget)
        if event.space is not None:
            self._widen(Space.from_dict(event.space), event.at)

    def _widen(self, space: Space, at: float) -> None:
        """Takes a wider space; from now on every trial says what it had of the parameters that are new."""
        self.specification = self.specification.with_changes(space=space)
        self.spaces.append(SpaceHeld(at, len(self.trials), space))
        for trial in self.trials:
            trial.params = space.complete(trial.params)
        self.suggester.widened(space)

    def _loss(self, trial: Trial) -> float:
        objective = self.specification.objective
        return objective.loss(trial.last_metrics.get(objective.metric, float("nan")))

    def _observe(self, trial: Trial) -> None:
        """Tells the suggester what the trial is worth now; each level once."""
        if trial.last_step > trial.observed_step:
            trial.observed_step = trial.last_step
            self.suggester.observed(trial.number, trial.last_step, self._loss(trial))

    def _value_of(self, trial: Trial) -> None:
        before = trial.value
        trial.judge(self.specification.objective)
        if trial.value is None or trial.value == before:
            return
        self.successes += before is None
        self._rank(trial)
        if self.specification.objective.is_better(trial.value, self.best.value if self.best else None):
            self.best = trial

    def _rank(self, trial: Trial) -> None:
        self._unrank(trial)
        if trial.best_checkpoint is not None and trial.value is not None:
            entry = (self.specification.objective.loss(trial.value), trial.number)
            self._ranked[trial.number] = entry
            self.ranking.add(entry)

    def _unrank(self, trial: Trial) -> None:
        entry = self._ranked.pop(trial.number, None)
        if entry is not None:
            self.ranking.remove(entry)

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
    RolledBack: StudyState._rolled_back,
    Ending: StudyState._ending,
    Ended: StudyState._ended,
    Reopened: StudyState._reopened,
    Extended: StudyState._extended,
}

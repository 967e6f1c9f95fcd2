"""What a worker has to say of a trial, and the verdict about it.

What is said twice counts once: steps that were reported before are passed over, and of a trial that the worker does
not hold any more it learns nothing but that it must let go of it.
"""

import math
from collections.abc import Mapping, Sequence

from orchestrator.domain.errors import did_you_mean
from orchestrator.domain.events import (
    Checkpointed,
    Decided,
    Exported,
    ExportFailed,
    Failed,
    Finished,
    Rejected,
    Reported,
)
from orchestrator.domain.exchange import ExportResult, Progress, Verdict
from orchestrator.domain.trials import Decision, Failure, TrialState
from orchestrator.study.bundles import REFERENCE, BundleState
from orchestrator.study.ledger import Ledger
from orchestrator.study.state import CRASHES, Phase
from orchestrator.study.trial import Trial

MISSING_METRIC = "the metric is never reported"
"""The signature of a failure that every trial would repeat."""

FreshReports = Sequence[tuple[int, Mapping[str, float]]]


class Hearing:
    """Takes workers' words into the ledger of one study."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._state = ledger.state

    def hear(self, worker: str, progress: Progress, now: float) -> Verdict:
        """Records what is new and returns what becomes of the trial."""
        if progress.trial >= len(self._state.trials):
            return Verdict(Decision.STOP, 0)  # of a study that was begun anew under the same name
        trial = self._state.trials[progress.trial]
        if not trial.is_held_by(worker, progress.attempt):
            # told before, or not this worker's any more: whichever it is, it must let go of the trial
            return Verdict(Decision.PAUSE if trial.state is TrialState.PAUSED else Decision.STOP, trial.until)
        failure = self._record(trial, progress, now)
        if failure is not None:
            self.fail(now, trial, failure)
            return Verdict(Decision.STOP, trial.until)
        if progress.done:
            self._ledger.enter(Finished(now, trial.number))
            return Verdict(Decision.STOP, trial.until)
        return self._decide(trial, now)

    def fail(self, now: float, trial: Trial, failure: Failure) -> None:
        """Ends the attempt; ends the study too where its first trials all fail alike."""
        state, policy = self._state, self._state.specification.failures
        crashed = failure.cause in CRASHES
        earlier = trial.crashes if crashed else len(trial.failures) - trial.crashes
        retry = earlier < (policy.crashes if crashed else policy.errors) and failure.signature != MISSING_METRIC
        self._ledger.enter(Failed(now, trial.number, trial.attempt, failure, retry))
        if state.successes:
            return
        alike = len(set(state.failures[failure.signature]))
        if alike >= policy.alike or failure.signature == MISSING_METRIC:
            self._ledger.begin_ending(now, "failing")

    def export_ended(self, result: ExportResult, now: float) -> None:
        """Records what became of a bundle."""
        record = self._state.bundles.get(result.bundle)
        if record is None or record.state is not BundleState.EXPORTING:
            return
        if result.error:
            self._ledger.enter(ExportFailed(now, result.bundle, result.error, lost=False))
            return
        self._ledger.enter(Exported(now, result.bundle, result.uri))
        if record.purpose == REFERENCE:
            self._ledger.enter(Rejected(now, result.bundle, "a reference is measured, not served"))

    def _record(self, trial: Trial, progress: Progress, now: float) -> Failure | None:
        """Records what is new in the worker's word; returns why the attempt failed, if it did."""
        fresh = [(step, metrics) for step, metrics in progress.reports if step > trial.last_step]
        problem = None if progress.failure else self._metric_problem(fresh)
        if problem is not None:
            return problem
        if fresh:
            self._ledger.enter(Reported(now, trial.number, fresh))
        known = trial.checkpoint
        if progress.checkpoint is not None and (known is None or progress.checkpoint.step > known.step):
            self._ledger.enter(Checkpointed(now, trial.number, progress.checkpoint))
        if progress.done and not trial.reports and progress.failure is None:
            return self._unreported()
        return progress.failure

    def _metric_problem(self, reports: FreshReports) -> Failure | None:
        metric = self._state.specification.objective.metric
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

    def _unreported(self) -> Failure:
        metric = self._state.specification.objective.metric
        message = f"it ended and had reported nothing; return a number, or call trial.report({metric}=…)"
        return Failure("metric", message, signature=MISSING_METRIC)

    def _decide(self, trial: Trial, now: float) -> Verdict:
        state, step = self._state, trial.last_step
        if step >= state.specification.scheduler.max:
            self._ledger.enter(Finished(now, trial.number))
            return Verdict(Decision.STOP, trial.until)
        if step < trial.until and state.phase is Phase.RUNNING:
            return Verdict(Decision.CONTINUE, trial.until)
        decision = self._judged(trial)
        self._ledger.enter(Decided(now, trial.number, step, decision))
        return Verdict(decision, trial.until)

    def _judged(self, trial: Trial) -> Decision:
        decision = Decision.PAUSE
        if trial.last_step >= trial.until:
            can_wait = trial.checkpoint is not None
            decision = self._state.scheduler.judge(trial.number, trial.until, can_wait=can_wait)
            if trial.origin == "default":  # the yardstick is measured to its end
                decision = Decision.CONTINUE
        if self._state.phase is not Phase.RUNNING and decision is Decision.CONTINUE:
            decision = Decision.PAUSE
        if decision is Decision.PAUSE and trial.checkpoint is None:
            decision = Decision.STOP
        return decision

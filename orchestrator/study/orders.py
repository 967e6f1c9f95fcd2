"""What a worker is told to do next: a trial to run, or a checkpoint to make a bundle of.

A bundle goes first. Then trials that lost their worker or failed and may try again, then those that the scheduler
promotes, then configurations of the user's, then new ones.
"""

from orchestrator.domain.events import Exporting, Started, Suggested
from orchestrator.domain.exchange import Export, Message, Run
from orchestrator.domain.seeds import derive_seed
from orchestrator.domain.space import Configuration
from orchestrator.domain.specification import Budget
from orchestrator.domain.trials import TrialState
from orchestrator.study.bundles import BundleState
from orchestrator.study.ledger import Ledger
from orchestrator.study.promotion import next_export
from orchestrator.study.state import Phase
from orchestrator.study.trial import Trial


class Orders:
    """Gives the orders of one study."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._state = ledger.state

    def next_run(self, worker: str, now: float) -> Run | None:
        """Returns the order to run the next trial, begun already; None where there is none."""
        trial = self._next_trial(now)
        if trial is None:
            return None
        attempt = trial.attempt + 1 if trial.state is TrialState.FAILED else trial.attempt
        step = trial.checkpoint.step if trial.checkpoint else 0
        self._ledger.enter(Started(now, trial.number, attempt, worker, step))
        return self._run(trial)

    def next_export(self, worker: str, now: float) -> Export | None:
        """Returns the order to make the next bundle, begun already; None where there is none."""
        candidate = next_export(self._state)
        if candidate is None:
            return None
        step = candidate.checkpoint.step
        self._ledger.enter(Exporting(now, candidate.trial.number, step, candidate.bundle, candidate.purpose, worker))
        return self._export(candidate.bundle)

    def lost_runs(self, message: Message) -> list[Run]:
        """Returns again the orders that the worker was given and does not mention: the answer got lost."""
        held = self._state.held.get(message.worker)
        if not held:
            return []
        mentioned = {(progress.trial, progress.attempt) for progress in message.progress}
        trials = [self._state.trials[number] for number in sorted(held)]
        return [self._run(trial) for trial in trials if (trial.number, trial.attempt) not in mentioned]

    def lost_export(self, message: Message) -> Export | None:
        """Returns again the order for a bundle that the worker was given and does not mention."""
        record = self._state.open_bundle()
        if record is None or record.state is not BundleState.EXPORTING or record.worker != message.worker:
            return None
        if record.bundle in message.making or any(result.bundle == record.bundle for result in message.exports):
            return None
        return self._export(record.bundle)

    def enqueue(self, params: Configuration, now: float) -> None:
        """Adds a trial with the user's own configuration, completed by the middles of the space."""
        whole = self._state.specification.space.complete(params)
        self._ledger.enter(Suggested(now, len(self._state.trials), whole, "user"))

    def has_work(self, budget: Budget) -> bool:
        """Returns whether there is a trial to wait for, to go on with, or to begin within a budget of trials."""
        state = self._state
        return bool(
            state.requeued
            or state.counts[TrialState.RUNNING]
            or state.counts[TrialState.WAITING]
            or self._may_begin_another(budget)
            or state.scheduler.promotable()
        )

    def why_no_work(self, budget: Budget) -> str:
        """Returns the reason for which a study without work ends."""
        return "exhausted" if len(self._state.trials) < budget.most_trials else "finished"

    def _may_begin_another(self, budget: Budget) -> bool:
        state = self._state
        return len(state.trials) < budget.most_trials and not state.suggester.is_exhausted()

    def _next_trial(self, now: float) -> Trial | None:
        state = self._state
        if state.phase is not Phase.RUNNING:
            return None
        if state.requeued:
            return state.trials[state.requeued[0]]
        promotable = state.scheduler.promotable()
        if promotable is not None:
            return state.trials[promotable[0]]
        if state.waiting:
            return state.trials[state.waiting[0]]
        if self._may_begin_another(state.specification.budget):
            return self._suggest(now)
        return None

    def _suggest(self, now: float) -> Trial:
        state, number = self._state, len(self._state.trials)
        if number == 0 and state.created is not None and state.created.defaults is not None:
            whole = state.specification.space.complete(state.created.defaults)  # it may be wider than it was then
            self._ledger.enter(Suggested(now, number, whole, "default"))
        else:
            self._ledger.enter(Suggested(now, number, state.suggester.suggest(number), "search"))
        return state.trials[number]

    def _run(self, trial: Trial) -> Run:
        seed = self._seed(trial)
        return Run(trial.number, trial.attempt, trial.params, seed, trial.until, trial.checkpoint, trial.last_step)

    def _export(self, bundle: str) -> Export:
        record = self._state.bundles[bundle]
        trial = self._state.trials[record.trial]
        return Export(bundle, trial.number, trial.params, self._seed(trial), record.checkpoint, record.value)

    def _seed(self, trial: Trial) -> int:
        return derive_seed(self._state.specification.seed, trial.number, "train")

"""The study decides: messages and ticks in, events and answers out.

Nothing here opens a file, sleeps or reads a clock. Each public method returns the events that it caused; they are
applied already, and its caller must have them in the journal before it acts on the answer. One writer at a time: the
study actor, or the process at hand where a study runs inline.

`hearing` takes workers' words, `orders` says what they do next, `leases` who may still speak, `promotion` which
checkpoint becomes a challenger; they share one `ledger`.
"""

from collections.abc import Mapping
from typing import Any

from orchestrator.domain.errors import ExchangeRefused, InvalidSpecification
from orchestrator.domain.events import (
    BaselineMeasured,
    Created,
    Ended,
    Event,
    Extended,
    Opened,
    Promoted,
    Rejected,
    Reopened,
    RolledBack,
)
from orchestrator.domain.exchange import Answer, Export, Message, Run, Verdict
from orchestrator.domain.space import Configuration, Space
from orchestrator.domain.specification import Budget, StudySpecification
from orchestrator.domain.trials import Decision, TrialState
from orchestrator.domain.widening import check_wider
from orchestrator.schedulers.port import Scheduler
from orchestrator.search.port import Suggester
from orchestrator.study.bundles import BundleState
from orchestrator.study.hearing import Hearing
from orchestrator.study.leases import Leases
from orchestrator.study.ledger import Ledger
from orchestrator.study.orders import Orders
from orchestrator.study.promotion import awaiting_promotion, next_export
from orchestrator.study.state import Phase, StudyState

WAIT_SECONDS = 0.05  # a worker without work asks again after this
WAITING_WORDS = 200.0  # a second, from all workers without work together: a thousand of them must not drown the others
BATCH = 32  # trials a worker may hold at once, where each takes next to no time


class Study:
    """One optimisation: its state, and the decisions about it."""

    def __init__(self, specification: StudySpecification, suggester: Suggester, scheduler: Scheduler) -> None:
        self.state = StudyState(specification, suggester, scheduler)
        self.workers = 1  # how many run side by side, as far as the edge knows
        self._asked = specification.budget  # what this life was asked for; earlier ones may have had another
        self._serves = True  # as far as the edge knows
        self._ledger = Ledger(self.state)
        self._hearing = Hearing(self._ledger)
        self._orders = Orders(self._ledger)
        self._leases = Leases(self._ledger, self._hearing)

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
        self._ledger.enter(Created(now, self.specification.to_dict(), whole, code_sha256, versions))
        return self._ledger.take()

    def open(self, now: float, *, epoch: int, writer: str, address: str = "") -> list[Event]:
        """Records that a writer took over."""
        self._ledger.enter(Opened(now, epoch, writer, address))
        return self._ledger.take()

    def measured(self, now: float, *, baseline: float | None, data_sha256: str) -> list[Event]:
        """Records the trivial predictor's value, once; the same again changes nothing."""
        if (self.state.baseline, self.state.data_sha256) != (baseline, data_sha256):
            self._ledger.enter(BaselineMeasured(now, baseline, data_sha256))
        return self._ledger.take()

    def stop(self, now: float, reason: str = "stopped") -> list[Event]:
        """Begins no more trials; those that run are sent away at their next word."""
        self._ledger.begin_ending(now, reason)
        return self._settled(now)

    def reopen(self, now: float) -> list[Event]:
        """Goes on as somebody asks for it now: with a study that was ended by hand, or within another budget.

        A study that came to its own end is left alone, unless the budget gives it more to spend. What `extend` gave is
        not taken back by a study file that is older than it.
        """
        given = self.state.extended_to
        if given is not None and (self._asked == Budget() or not self._asked.is_larger(given)):
            self._asked = given  # who names no budget takes what there is
        if self.state.phase is Phase.RUNNING:
            goes_on = self.specification.budget != self._asked
        else:
            goes_on = self.state.reason in ("stopped", "failing") or self._has_more_to_spend()
        if goes_on:
            self._go_on(now)
        return self._ledger.take()

    def extend(
        self, now: float, *, trials: int | None = None, seconds: float | None = None, space: Space | None = None
    ) -> list[Event]:
        """Gives the study a larger budget, a wider space, or both; what is None stays as it is.

        One that runs goes on with them at once. One that has ended goes on where they give it something to do.

        Raises:
            InvalidSpecification: the budget would not be larger, or the space is the one that it has.
            InvalidSpace: the space does not hold all of the one before.
        """
        old = self.specification
        budget = Budget(trials or old.budget.trials, seconds or old.budget.seconds)
        if budget != old.budget or space is None:
            _check_larger(old, budget)
        if space is not None:
            _check_wider(old, space)
        self._ledger.enter(Extended(now, budget.trials, budget.seconds, None if space is None else space.to_dict()))
        self._asked = budget
        if self.state.phase is not Phase.RUNNING and self._has_more_to_spend():
            self._go_on(now)
        return self._ledger.take()

    def _has_more_to_spend(self) -> bool:
        seconds = self._asked.seconds
        in_time = seconds is None or self.state.seconds_used() < seconds
        return in_time and self._orders.has_work(self._asked)

    def _go_on(self, now: float) -> None:
        self._serves = True
        self._ledger.enter(Reopened(now, self._asked.trials, self._asked.seconds))

    def tick(self, now: float) -> list[Event]:
        """Looks at the clocks: the budget of time, trials that say nothing for too long, hosts without a beat."""
        budget = self.specification.budget.seconds
        if budget is not None and self.state.seconds_used(now) >= budget:
            self._ledger.begin_ending(now, "time")
        self._leases.look(now)
        return self._settled(now)

    # --- workers -----------------------------------------------------------------------------------------------

    def exchange(self, message: Message, now: float) -> tuple[list[Event], Answer]:
        """Takes a worker's word and answers it; the same message again gets the same answer.

        Raises:
            ExchangeRefused: the worker has heard of a later writer than this one.
        """
        state = self.state
        if message.epoch > state.epoch:
            raise ExchangeRefused(f"epoch {state.epoch} of the study is over; epoch {message.epoch} has begun")
        if message.worker in self._leases.fenced:
            return [], Answer(state.epoch, fenced=True)
        self._leases.spoke(message.worker, message.host)
        verdicts = {progress.trial: self._hearing.hear(message.worker, progress, now) for progress in message.progress}
        for result in message.exports:
            self._hearing.export_ended(result, now)
        for number in message.returned:
            self._leases.take_back(message.worker, number, now)
        if message.leaving:
            self._leases.release(message.worker, now, "its worker had to end", blame=False)
            return self._settled(now), Answer(state.epoch, verdicts, release=True)
        answer = self._answer(message, verdicts, now)
        return self._ledger.take(), answer

    def _answer(self, message: Message, verdicts: Mapping[int, Verdict], now: float) -> Answer:
        kept = sum(verdict.decision is Decision.CONTINUE for verdict in verdicts.values())
        room = message.room - kept
        if self.state.phase is Phase.RUNNING and room > 0 and not self._orders.has_work(self.specification.budget):
            self._ledger.begin_ending(now, self._orders.why_no_work(self.specification.budget))
        leave = self._leases.is_asked_to_leave(message.worker)
        runs, exports = ([], []) if leave else self._give(message, room, now)
        self._end_if_done(now)
        idle = not runs and not exports and kept == 0 and room > 0
        over = self.state.phase is not Phase.RUNNING and self._is_all_exported()
        if idle and (over or leave):
            self._leases.left(message.worker)
        return Answer(
            self.state.epoch,
            verdicts,
            tuple(runs),
            tuple(exports),
            release=idle and (over or leave),
            leave=leave,
            wait_seconds=max(WAIT_SECONDS, self.workers / WAITING_WORDS) if idle and not over and not leave else 0.0,
            batch=BATCH if self.workers > 1 else 1,
        )

    def _give(self, message: Message, room: int, now: float) -> tuple[list[Run], list[Export]]:
        """Returns what the worker is to do: first what it was told and has not heard, then what it has room for."""
        runs = self._orders.lost_runs(message)
        lost = self._orders.lost_export(message)
        if lost is not None:
            return runs, [lost]
        for _ in range(room - len(runs)):
            export = self._orders.next_export(message.worker, now) if self._serves else None
            if export is not None:
                return runs, [export]
            run = self._orders.next_run(message.worker, now)
            if run is None:
                break
            runs.append(run)
        return runs, []

    def shrink(self, workers: int, now: float, hosts: Mapping[str, int] | None = None) -> None:
        """Keeps no more than so many workers, with `hosts` so many on each host.

        Those that are cheapest to resume save what they hold, and end.
        One that does not come back from its step within seconds is fenced; its trial goes on from its checkpoint.
        """
        self._leases.shrink(workers, now, hosts)

    def was_deaf(self, now: float) -> None:
        """Until now the study waited for its storage: nobody's silence meanwhile counts. Not journalled."""
        self._leases.was_deaf(now)

    def beat(self, host: str, now: float) -> None:
        """Takes a sign of life of a host, sent by a process that runs no user code."""
        self._leases.beat(host, now)

    def worker_lost(self, worker: str, now: float, *, cause: str, blame: bool) -> list[Event]:
        """Fences a worker that is gone. With `blame` its death counts as a failed attempt of each trial it ran."""
        self._leases.release(worker, now, cause, blame=blame)
        return self._settled(now)

    def all_workers_lost(self, now: float, cause: str) -> list[Event]:
        """Takes back whatever earlier workers held, blaming nobody: their runner is gone, and they with it."""
        for worker in self._leases.known():
            self._leases.release(worker, now, cause, blame=False)
        return self._settled(now)

    @property
    def fenced(self) -> frozenset[str]:
        """The workers whose time is over; whoever can should end their processes."""
        return frozenset(self._leases.fenced)

    def is_waiting_for_workers(self) -> bool:
        """Whether workers are needed: there are trials to run or bundles to make."""
        if self.state.phase is Phase.ENDED:
            return False
        return self.state.phase is Phase.RUNNING or not self._is_all_exported()

    def enqueue(self, params: Configuration, now: float) -> list[Event]:
        """Adds a trial with the user's own configuration, completed by the middles of the space."""
        self._orders.enqueue(params, now)
        return self._ledger.take()

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
        if self._awaits(bundle):
            self._ledger.enter(Promoted(now, bundle, version))
        return self._settled(now)

    def rejected(self, bundle: str, reason: str, now: float) -> list[Event]:
        """Records that the bundle will not be the champion."""
        if self._awaits(bundle):
            self._ledger.enter(Rejected(now, bundle, reason))
        return self._settled(now)

    def serves_no_more(self, reason: str, now: float) -> list[Event]:
        """Rejects the bundle that waits for an endpoint and exports nothing more in this life: there is none.

        Without it every next best checkpoint would be exported, only to be rejected.
        """
        self._serves = False
        waiting = awaiting_promotion(self.state)
        if waiting is not None:
            self._ledger.enter(Rejected(now, waiting, reason))
        return self._settled(now)

    def rolled_back(self, version: str, now: float) -> list[Event]:
        """Records that the endpoint answers with an earlier version again; the one that did is not put up again."""
        champion = self.state.champion
        if champion is not None and champion.version != version:
            self._ledger.enter(RolledBack(now, version))
        return self._settled(now)

    def _awaits(self, bundle: str) -> bool:
        record = self.state.bundles.get(bundle)
        return record is not None and record.state is BundleState.EXPORTED

    # --- the end -----------------------------------------------------------------------------------------------

    def _is_all_exported(self) -> bool:
        """Whether the workers are not needed any more once the study is ending."""
        state = self.state
        if state.counts[TrialState.RUNNING] or state.open_bundle() is not None:
            return False
        return not self._serves or next_export(state) is None

    def _end_if_done(self, now: float) -> None:
        if self.state.phase is Phase.ENDING and self._is_all_exported():
            self._ledger.enter(Ended(now))

    def _settled(self, now: float) -> list[Event]:
        self._end_if_done(now)
        return self._ledger.take()


def _check_larger(old: StudySpecification, budget: Budget) -> None:
    if not budget.is_larger(old.budget):
        raise InvalidSpecification(
            f"study '{old.study}' may spend {old.budget} already, and {budget} is not more; "
            "give more trials or more time"
        )


def _check_wider(old: StudySpecification, space: Space) -> None:
    if space == old.space:
        raise InvalidSpecification(f"study '{old.study}' has that space already; widen a range, or add a value")
    check_wider(old.space, space)
    old.with_changes(space=space)  # raises where its search cannot use it

"""Who may still speak: three clocks, and what becomes of the work of those whose time is over.

A process that died is told by whoever watches it, at once. A host that died is told by its silence: a process that
runs no user code beats for it. A trial that hangs is told by the user's own timeout. Whoever loses its lease is
*fenced*: its later words are refused, so that a trial never runs twice at once, though its process may still live.
"""

import math
from collections.abc import Iterable, Mapping

from orchestrator.domain.events import ExportFailed, Interrupted
from orchestrator.domain.trials import Failure
from orchestrator.study.bundles import BundleState
from orchestrator.study.hearing import Hearing
from orchestrator.study.ledger import Ledger
from orchestrator.study.state import Phase
from orchestrator.study.trial import Trial

HOST_SECONDS = 8.0  # a host that gives no sign of life for so long, four beats, is dead
GRACE_SECONDS = 15.0  # for the steps that run when the time is over
LEAVE_SECONDS = 10.0  # for a worker that was asked to give its room to a replica; a step may last for hours


class Leases:
    """The workers of one study, as far as their lives go. Not journalled: each life of the study begins with none."""

    def __init__(self, ledger: Ledger, hearing: Hearing) -> None:
        self.fenced: set[str] = set()
        self._ledger = ledger
        self._state = ledger.state
        self._hearing = hearing
        self._hosts: dict[str, str] = {}  # worker -> the host from which it last spoke
        self._beats: dict[str, float] = {}  # host -> its last sign of life
        self._leaving: dict[str, float] = {}  # worker -> when it was asked to leave
        self._heard_from = -math.inf  # since when the study hears anybody

    def spoke(self, worker: str, host: str) -> None:
        """Remembers where a worker is."""
        self._hosts[worker] = host

    def left(self, worker: str) -> None:
        """Forgets a worker that was told to end."""
        self._hosts.pop(worker, None)
        self._leaving.pop(worker, None)

    def beat(self, host: str, now: float) -> None:
        """Takes a host's sign of life."""
        self._beats[host] = now

    def was_deaf(self, now: float) -> None:
        """Until now the study waited for its storage, and whoever spoke meanwhile is still to be heard."""
        self._heard_from = now
        self._beats = dict.fromkeys(self._beats, now)
        self._leaving = dict.fromkeys(self._leaving, now)

    def is_asked_to_leave(self, worker: str) -> bool:
        """Returns whether the worker should save what it holds, and end."""
        return worker in self._leaving

    def shrink(self, workers: int, now: float, hosts: Mapping[str, int] | None = None) -> None:
        """Asks so many to leave that no more than `workers` stay: those that are cheapest to resume.

        With `hosts` no more stay on each host than it says, and none on one that it does not name.
        """
        if hosts is not None:
            for host in sorted(set(self._hosts.values())):
                there = [worker for worker in self._staying() if self._hosts[worker] == host]
                self._ask_to_leave(there, hosts.get(host, 0), now)
        self._ask_to_leave(self._staying(), workers, now)

    def _staying(self) -> list[str]:
        return [worker for worker in self._hosts if worker not in self._leaving]

    def _ask_to_leave(self, among: list[str], kept: int, now: float) -> None:
        excess = len(among) - kept
        if excess > 0:
            for worker in sorted(among, key=self._cost_to_resume)[:excess]:
                self._leaving[worker] = now

    def _cost_to_resume(self, worker: str) -> tuple[bool, int, int]:
        """Returns what is lost or done twice when a worker leaves: a bundle, steps without a checkpoint, the rung."""
        trials = [self._state.trials[number] for number in self._state.held.get(worker, ())]
        record = self._state.open_bundle()
        exports = record is not None and record.state is BundleState.EXPORTING and record.worker == worker
        unsaved = sum(trial.last_step - (trial.checkpoint.step if trial.checkpoint else 0) for trial in trials)
        return exports, unsaved, max((trial.until for trial in trials), default=0)

    def look(self, now: float) -> None:
        """Looks at the clocks."""
        for worker in [worker for worker, since in self._leaving.items() if now - since > LEAVE_SECONDS]:
            self.release(worker, now, f"still at a step {LEAVE_SECONDS:.0f} s after it was asked to leave", blame=False)
        self._end_silent_trials(now)
        self._send_away_late_trials(now)
        for host in [host for host, at in self._beats.items() if now - at > HOST_SECONDS]:
            silent = now - self._beats.pop(host)
            for worker in [worker for worker, where in self._hosts.items() if where == host]:
                self.release(worker, now, f"host {host} gave no sign of life for {silent:.0f} s", blame=False)

    def release(self, worker: str, now: float, cause: str, *, blame: bool) -> None:
        """Fences a worker and takes back what it held; with `blame` that counts as a failed attempt of each trial."""
        self.fenced.add(worker)
        self._hosts.pop(worker, None)
        self._leaving.pop(worker, None)
        for number in sorted(self._state.held.get(worker, ())):
            if blame:
                kind = "memory" if "memory" in cause.lower() else "crash"
                failure = Failure(kind, f"worker {worker} died: {cause}", signature=f"{kind}: {cause[:80]}")
                self._hearing.fail(now, self._state.trials[number], failure)
            else:
                self._ledger.enter(Interrupted(now, number, cause))
        record = self._state.open_bundle()
        if record is not None and record.state is BundleState.EXPORTING and record.worker == worker:
            # a model whose export kills one worker after another is given up
            lost = not blame or self._state.lost_exports.get(record.bundle, 0) < self._policy_crashes
            self._ledger.enter(ExportFailed(now, record.bundle, cause, lost=lost))

    def take_back(self, worker: str, number: int, now: float) -> None:
        """Takes back a trial that its worker lets go of while it goes on with others; not one that was decided."""
        if number in self._state.held.get(worker, ()):
            self._ledger.enter(Interrupted(now, number, "its slot gave its room to a replica"))

    def known(self) -> list[str]:
        """Returns the workers that spoke and did not end, hold trials or make a bundle."""
        holders = {worker for worker, trials in self._state.held.items() if trials} | set(self._hosts)
        record = self._state.open_bundle()
        if record is not None and record.state is BundleState.EXPORTING:
            holders.add(record.worker)
        return sorted(holders)

    @property
    def _policy_crashes(self) -> int:
        return self._state.specification.failures.crashes

    def _running(self) -> Iterable[Trial]:
        return [self._state.trials[number] for numbers in self._state.held.values() for number in sorted(numbers)]

    def _end_silent_trials(self, now: float) -> None:
        limit = self._state.specification.timeout_seconds
        if limit is None:
            return
        silent = [t for t in self._running() if now - max(t.heard_at, self._heard_from) > limit]
        for trial in silent:
            message = f"trial {trial.number} said nothing for {now - trial.heard_at:.0f} s (timeout: {limit:.0f} s)"
            self._hearing.fail(now, trial, Failure("timeout", message, signature="timeout"))
        for worker in sorted({trial.worker for trial in silent}):
            self.release(worker, now, "another trial of its worker was silent for too long", blame=False)

    def _send_away_late_trials(self, now: float) -> None:
        """Takes back the trials whose workers did not come back with them after the end: a step may last for hours."""
        ending_at = self._state.ending_at
        if self._state.phase is not Phase.ENDING or ending_at is None:
            return
        if now - max(ending_at, self._heard_from) > GRACE_SECONDS:
            for worker in sorted({trial.worker for trial in self._running()}):
                cause = f"still at a step {GRACE_SECONDS:.0f} s after the study's end"
                self.release(worker, now, cause, blame=False)

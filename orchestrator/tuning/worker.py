"""The worker: takes orders from the study, runs trials, and says what came of them.

It knows neither Ray nor the study itself, only a port that takes a message and gives an answer. Inline runs and the
workers in Tune slots are this class.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestrator.domain.errors import StorageError
from orchestrator.domain.exchange import Answer, ExportResult, Message, Progress, Run
from orchestrator.domain.trials import CheckpointRef, Decision, Failure
from orchestrator.tuning.failures import failure_of
from orchestrator.tuning.outage import is_outage
from orchestrator.tuning.runs import RETURNED, ActiveRun, Stretch
from orchestrator.tuning.tidiness import Surroundings
from orchestrator.tuning.workshop import Workshop

FLUSH_SECONDS = 1.0  # a trial between two milestones is heard of at least this often, if its steps allow it
CHECKPOINT_SECONDS = 30.0  # what a kill may cost at most, again if the steps allow it
SHORT_SECONDS = 0.02  # trials whose stretch is shorter are worth holding several at once

Port = Callable[[Message], Answer]
Save = Callable[[int, int, Callable[[Path], bool]], CheckpointRef | None]


class FencedError(Exception):
    """The study gave this worker up; whatever it holds is not its own any more."""


class OutOfMemoryError(Exception):
    """User code ran out of memory; the process is not fit for another trial."""


@dataclass(slots=True)
class _Held:
    """A trial in this worker's hands, and what is not told yet."""

    order: Run
    until: int
    surroundings: Surroundings
    saved_at: float
    saved_step: int = 0
    run: ActiveRun | None = None  # None: not opened yet, or it failed
    progress: Progress | None = None  # ready to be told


class Pace(Protocol):
    """The clock by which a worker slices its work: seconds that only rise."""

    def __call__(self) -> float:
        """Returns the seconds."""


class Worker:
    """One process's share of a study. Used by one thread."""

    def __init__(
        self, name: str, port: Port, workshop: Workshop, *, host: str = "", pace: Pace = time.monotonic
    ) -> None:
        self.name = name
        self._port = port
        self._workshop = workshop
        self._host = host
        self._pace = pace
        self._epoch = 0
        self._batch = 1
        self._room = 1
        self._held: dict[int, _Held] = {}
        self._exports: list[ExportResult] = []
        self._outage: StorageError | None = None
        self._is_leaving = False

    @property
    def holds(self) -> int:
        """How many trials are in its hands."""
        return len(self._held)

    def turn(self) -> Answer:
        """Says what came of the last turn, takes the answer, and does what it says.

        Raises:
            FencedError: the study gave this worker up.
            OutOfMemoryError: told to the study already, which took everything back; the process should end.
            StorageError: the same, where the storage is away for too long: no trial is blamed for it.
        """
        message = self._message()
        answer = self._port(message)
        self._epoch, self._batch = answer.epoch, answer.batch
        if message.leaving:
            self.drop()
            if self._outage is not None:
                raise self._outage
            if self._is_leaving:
                return answer
            raise OutOfMemoryError(f"worker {self.name} ran out of memory")
        if answer.fenced:
            self.drop()
            raise FencedError(f"worker {self.name} was given up by the study")
        self._take_verdicts(answer)
        for order in answer.runs:
            step = order.checkpoint.step if order.checkpoint else 0
            self._held[order.trial] = _Held(order, order.until, Surroundings(order.seed), self._pace(), step)
        try:
            self._exports = [self._workshop.export(order) for order in answer.exports]
            if answer.leave and not answer.release:
                self._save_all()
            else:
                self._work()
        except StorageError as error:  # said with the next message, which has nothing of what could not be kept
            self._outage = error
        return answer

    def drop(self) -> None:
        """Lets go of everything, without a word."""
        for held in self._held.values():
            _leave(held)
        self._held.clear()

    def _message(self) -> Message:
        progress = tuple(
            held.progress or Progress(held.order.trial, held.order.attempt) for held in self._held.values()
        )
        ran_out = any(_is_memory(word.failure) for word in progress)
        leaving = self._is_leaving or self._outage is not None or ran_out
        return Message(self.name, self._epoch, self._host, progress, tuple(self._exports), self._room, leaving)

    def _take_verdicts(self, answer: Answer) -> None:
        for number, verdict in answer.verdicts.items():
            held = self._held.get(number)
            if held is None:
                continue
            held.progress = None
            held.until = verdict.until
            if verdict.decision is not Decision.CONTINUE:
                if held.run is not None:
                    held.run.close(verdict.decision)
                del self._held[number]

    def _work(self) -> None:
        began, worked = self._pace(), 0
        for held in self._held.values():
            if held.progress is None:
                held.progress = self._progress(held)
                worked += 1
        if worked:
            is_short = (self._pace() - began) / worked < SHORT_SECONDS
            self._room = min(self._batch, self._room * 2) if is_short else 1

    def _save_all(self) -> None:
        """Saves what is held, so that nothing is done twice after this worker has left."""
        self._is_leaving = True
        for held in self._held.values():
            held.progress = held.progress or self._guarded(held, self._saved)

    def _saved(self, held: _Held) -> Progress:
        order, run = held.order, held.run
        has_moved = run is not None and run.step > held.saved_step
        checkpoint = self._save(held, self._workshop.checkpoints.publish) if has_moved else None
        return Progress(order.trial, order.attempt, checkpoint=checkpoint)

    def _progress(self, held: _Held) -> Progress:
        return self._guarded(held, self._stretch)

    def _guarded(self, held: _Held, work: Callable[[_Held], Progress]) -> Progress:
        order = held.order
        try:
            # the user's modules are imported before anything is put back afterwards: what they set is for all trials
            self._workshop.prepare()
            with held.surroundings:
                return work(held)
        except Exception as error:  # the user's code: recorded with its traceback, the study goes on
            _leave(held)
            if is_outage(error):
                raise
            return Progress(order.trial, order.attempt, failure=failure_of(error))

    def _stretch(self, held: _Held) -> Progress:
        order = held.order
        deadline = self._pace() + FLUSH_SECONDS
        if held.run is None:
            held.run = self._workshop.open(order)
        stretch = held.run.advance(held.until, lambda: self._pace() >= deadline)
        reports = tuple((step, self._named(metrics)) for step, metrics in stretch.reports)
        checkpoint = self._checkpoint(held, stretch)
        return Progress(order.trial, order.attempt, reports, checkpoint, stretch.done)

    def _checkpoint(self, held: _Held, stretch: Stretch) -> CheckpointRef | None:
        """Returns the newest one that can be told: at a milestone that of now, else what is published by then."""
        run, store = held.run, self._workshop.checkpoints
        assert run is not None
        if run.step > 0 and (stretch.done or run.step >= held.until):
            return self._save(held, store.publish)
        if run.step > 0 and self._pace() - held.saved_at > CHECKPOINT_SECONDS:
            return self._save(held, store.begin)
        return store.finished(held.order.trial)

    def _named(self, metrics: Mapping[str, float]) -> Mapping[str, float]:
        if RETURNED in metrics:
            return {self._workshop.specification.objective.metric: metrics[RETURNED]}
        return metrics

    def _save(self, held: _Held, save: Save) -> CheckpointRef | None:
        assert held.run is not None
        held.saved_at = self._pace()
        if not held.run.can_save:
            return None
        held.saved_step = held.run.step
        return save(held.order.trial, held.run.step, held.run.save)


def _leave(held: _Held) -> None:
    """Lets go of a trial that is not finished; a function leaves at its next report."""
    run, held.run = held.run, None
    if run is not None:
        run.close(Decision.PAUSE)


def _is_memory(failure: Failure | None) -> bool:
    return failure is not None and failure.cause == "memory"

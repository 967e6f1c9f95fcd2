"""A trial that is being run: one interface over trainables that are stepped and functions that report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from orchestrator.domain.exchange import Run
from orchestrator.domain.trials import Decision
from orchestrator.tuning.handle import TrialHandle, load_checkpoint
from trainables.contract import Trainable


@dataclass(frozen=True, slots=True)
class Stretch:
    """What came of one stretch of work: the metrics of its steps, and whether the trial came to its own end."""

    reports: list[tuple[int, Mapping[str, float]]]
    done: bool = False


class ActiveRun(Protocol):
    """A trial in work."""

    step: int
    """The resource level that was reached."""

    def advance(self, until: int, is_over: Callable[[], bool]) -> Stretch:
        """Works until step `until`, or until `is_over()` after a step, or to the trial's own end.

        Raises what user code raises.
        """

    def save(self, directory: Path) -> bool:
        """Writes the state at the last step into the empty directory; returns whether there is one to go on from."""

    @property
    def can_save(self) -> bool:
        """Whether there may be anything to save at all."""

    def close(self, decision: Decision) -> None:
        """Lets go of the trial."""


class StepRun:
    """A trainable, stepped."""

    def __init__(self, trainable: Trainable, first_step: int, *, is_one_step: bool) -> None:
        self.trainable = trainable
        self.step = first_step
        self._is_one_step = is_one_step
        self._saves = bool(getattr(trainable, "saves", True))

    def advance(self, until: int, is_over: Callable[[], bool]) -> Stretch:
        """See `ActiveRun`."""
        reports: list[tuple[int, Mapping[str, float]]] = []
        while self.step < until:
            metrics = _metrics("step", self.trainable.step())
            self.step += 1
            reports.append((self.step, metrics))
            if self._is_one_step:
                return Stretch(reports, done=True)
            if is_over():
                break
        return Stretch(reports)

    def save(self, directory: Path) -> bool:
        """See `ActiveRun`."""
        if self._saves:
            self.trainable.save(directory)
        return self._saves

    @property
    def can_save(self) -> bool:
        """Whether the class keeps checkpoints at all."""
        return self._saves

    def close(self, decision: Decision) -> None:
        """See `ActiveRun`."""


class FunctionRun:
    """A function objective, in a thread of its own."""

    def __init__(self, handle: TrialHandle, first_step: int) -> None:
        self._handle = handle
        self._first_step = first_step
        self.step = first_step

    @classmethod
    def open(
        cls, function: Callable[[Any], Any], order: Run, data: Any, saved: Path | None, first_step: int
    ) -> "FunctionRun":
        """Returns the run of a function that waits for its first `advance`."""
        checkpoint = load_checkpoint(saved) if saved else None
        handle = TrialHandle(order.trial, order.params, order.seed, data, first_step=first_step, checkpoint=checkpoint)
        handle.start(function)
        return cls(handle, first_step)

    def advance(self, until: int, is_over: Callable[[], bool]) -> Stretch:
        """See `ActiveRun`."""
        reports = self._handle.advance(until, is_over)
        self.step = self._handle.last_step
        if not self._handle.has_ended:
            return Stretch(reports)
        last = self._last_report(self._handle.result())
        if last is not None:
            self.step += 1
            reports.append((self.step, last))
        return Stretch(reports, done=True)

    def _last_report(self, returned: Any) -> Mapping[str, float] | None:
        """Returns the metrics that the function returned: a mapping, or one number under the objective's name."""
        if returned is None:
            return None
        return _metrics("an objective", returned if isinstance(returned, Mapping) else {RETURNED: returned})

    @property
    def can_save(self) -> bool:
        """Whether the function gave a checkpoint with its last report."""
        return self._handle.has_checkpoint

    def save(self, directory: Path) -> bool:
        """See `ActiveRun`."""
        return self._handle.save(directory)

    def close(self, decision: Decision) -> None:
        """See `ActiveRun`."""
        self._handle.dismiss(decision)


def _metrics(whose: str, given: Any) -> dict[str, float]:
    try:
        return {str(name): float(value) for name, value in given.items()}
    except (AttributeError, TypeError, ValueError):
        given = given.get(RETURNED, given) if isinstance(given, Mapping) else given
        raise TypeError(f"{whose} returns numbers by the names of their metrics; given {given!r}") from None


RETURNED = ""
"""The name under which a bare number that a function returned travels until the worker names it."""

"""What a function objective gets: the trial in its hands.

    def objective(trial):
        state = trial.checkpoint or {"weights": zeros()}
        for epoch in range(trial.last_step, 27):
            loss = train(state, trial.params["lr"])
            trial.report(loss=loss, checkpoint=state)

The function runs in a thread of its own. `report` hands the control to the worker whenever the trial is to be judged;
a trial that is paused or stopped leaves its function through a signal which is no `Exception`, so that ordinary
`except Exception` blocks let it pass.
"""

import pickle
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import InvalidSpace, did_you_mean
from orchestrator.domain.space import Configuration, Value
from orchestrator.domain.trials import Decision

PICKLE = "checkpoint.pkl"
DIRECTORY = "checkpoint"


class TrialSignal(BaseException):
    """How a trial leaves its function; user code lets it pass."""


class TrialHandle:
    """One trial, as its function sees it. Used by the function's thread; the worker waits meanwhile."""

    def __init__(
        self, number: int, params: Configuration, seed: int, data: Any, *, first_step: int, checkpoint: Any
    ) -> None:
        self.number = number
        self.params: Mapping[str, Value] = dict(params)
        self.seed = seed
        self.data = data
        self.checkpoint = checkpoint
        """What the last `report(checkpoint=…)` of an earlier life gave, or None."""
        self.last_step = first_step
        self._baton = _Baton()
        self._reports: list[tuple[int, Mapping[str, float]]] = []
        self._kept: tuple[int, Any] | None = None
        self._stopping = False

    def report(self, step: int | None = None, *, checkpoint: Any = None, **metrics: float) -> None:
        """Reports metrics at a resource level; `step` is the next one where it is not given.

        `checkpoint` is anything that can be pickled, or the path of a directory, from which this trial could go on; it
        is stored when the trial is judged. Without one the trial cannot be paused, only stopped.
        """
        step = self.last_step + 1 if step is None else step
        if isinstance(step, bool) or not isinstance(step, int) or step <= self.last_step:
            raise ValueError(
                f"report takes whole steps that rise; given step {step!r} after {self.last_step} "
                "(a trial that goes on from its checkpoint begins after trial.last_step)"
            )
        self._reports.append((step, {name: _number(name, value) for name, value in metrics.items()}))
        self.last_step = step
        if checkpoint is not None:
            self._kept = (step, checkpoint)
        if self._stopping:
            raise TrialSignal("the trial was stopped and reported again")
        if self._baton.is_due(step):
            self._obey(self._baton.give_back())

    def should_stop(self) -> bool:
        """Returns whether the trial was stopped: what it would report from now on is not asked for."""
        return self._stopping

    def suggest_float(
        self, name: str, low: float, high: float, *, log: bool = False, step: float | None = None
    ) -> float:
        """Returns the parameter's value; it must be in the study's space."""
        return float(self._suggested(name))  # type: ignore[arg-type]

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False, step: int = 1) -> int:
        """Returns the parameter's value; it must be in the study's space."""
        return int(self._suggested(name))  # type: ignore[arg-type]

    def suggest_categorical(self, name: str, choices: Any) -> Value:
        """Returns the parameter's value; it must be in the study's space."""
        return self._suggested(name)

    def _suggested(self, name: str) -> Value:
        if name not in self.params:
            raise InvalidSpace(
                f"'{name}' is not among this trial's parameters ({', '.join(self.params)})."
                f"{did_you_mean(name, self.params)} Put it into the study's space"
            )
        return self.params[name]

    def _obey(self, decision: Decision) -> None:
        if decision is Decision.PAUSE:
            raise TrialSignal("the trial is paused")
        self._stopping = decision is Decision.STOP

    # --- the worker's side -------------------------------------------------------------------------------------

    def start(self, function: Callable[["TrialHandle"], Any]) -> None:
        """Begins the function in a thread; it gets no further than `advance` lets it."""
        self._baton.start(lambda: function(self))

    def advance(self, until: int, is_over: Callable[[], bool]) -> list[tuple[int, Mapping[str, float]]]:
        """Lets the function run until it reports step `until`, or reports when `is_over()`, or ends."""
        self._baton.pass_on(Decision.CONTINUE, until, is_over)
        reports, self._reports = self._reports, []
        return reports

    def dismiss(self, decision: Decision) -> None:
        """Lets the function leave; what it does from now on is not listened to. Waits until it has left."""
        while not self._baton.is_ended:
            self._baton.pass_on(decision, 0, lambda: True)
        self._reports.clear()

    @property
    def has_ended(self) -> bool:
        """Whether the function has returned or raised."""
        return self._baton.is_ended

    def result(self) -> Any:
        """Returns what the function returned, or raises what it raised."""
        return self._baton.result()

    @property
    def has_checkpoint(self) -> bool:
        """Whether the last report came with a checkpoint."""
        return self._kept is not None and self._kept[0] == self.last_step

    def save(self, directory: Path) -> bool:
        """Writes the checkpoint of the last step into `directory`; returns whether there was one."""
        if self._kept is None or not self.has_checkpoint:
            return False
        checkpoint = self._kept[1]
        if isinstance(checkpoint, str | Path) and Path(checkpoint).is_dir():
            shutil.copytree(checkpoint, directory / DIRECTORY)
        else:
            (directory / PICKLE).write_bytes(pickle.dumps(checkpoint))
        return True


def load_checkpoint(directory: Path) -> Any:
    """Returns what `TrialHandle.save` wrote: the object, or the path of the directory."""
    if (directory / DIRECTORY).is_dir():
        return directory / DIRECTORY
    return pickle.loads((directory / PICKLE).read_bytes())


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise TypeError(f"report takes numbers; given {name}={value!r}") from None


class _Baton:
    """Control, handed to and fro between a worker and the thread of its function: one of the two runs at a time."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._go = threading.Semaphore(0)
        self._back = threading.Semaphore(0)
        self._decision = Decision.CONTINUE
        self._until = 0
        self._is_over: Callable[[], bool] = lambda: True
        self._result: Any = None
        self._error: BaseException | None = None
        self.is_ended = False

    def start(self, body: Callable[[], Any]) -> None:
        self._thread = threading.Thread(target=self._run, args=(body,), name="objective", daemon=True)
        self._thread.start()

    def _run(self, body: Callable[[], Any]) -> None:
        self._go.acquire()
        try:
            self._result = body()
        except TrialSignal:
            pass
        except BaseException as error:  # noqa: BLE001 - handed to the worker, which records it
            self._error = error
        self.is_ended = True
        self._back.release()

    def pass_on(self, decision: Decision, until: int, is_over: Callable[[], bool]) -> None:
        """The worker's move: lets the function go on, and waits until it gives the control back."""
        if self.is_ended:
            return
        self._decision, self._until, self._is_over = decision, until, is_over
        self._go.release()
        self._back.acquire()

    def is_due(self, step: int) -> bool:
        return step >= self._until or self._is_over()

    def give_back(self) -> Decision:
        """The function's move: gives the control back, and returns the decision once it may go on."""
        self._back.release()
        self._go.acquire()
        return self._decision

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result

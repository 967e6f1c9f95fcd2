"""Ask and tell: the caller evaluates the trials, by the same exchange that workers speak."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.domain.errors import InvalidSpecification
from orchestrator.domain.exchange import Answer, Message, Progress, Run
from orchestrator.domain.space import Value
from orchestrator.domain.trials import Decision, Failure
from orchestrator.study import StudyKeeper

ASKED = "asked"  # the failure of a trial that its caller reported as failed


@dataclass(slots=True)
class AskedTrial:
    """A trial in the caller's hands."""

    number: int
    params: Mapping[str, Value]
    seed: int
    attempt: int
    _desk: "Desk" = field(repr=False)
    _step: int = 0
    _is_stopped: bool = False

    def report(self, step: int | None = None, **metrics: float) -> None:
        """Reports metrics at a resource level; `should_stop` then says whether to go on.

        Raises:
            InvalidInput: the step does not rise, or the objective's metric is missing.
        """
        step = self._step + 1 if step is None else step
        if isinstance(step, bool) or not isinstance(step, int) or step <= self._step:
            raise InvalidSpecification(f"report takes whole steps that rise; given step {step!r} after {self._step}")
        if not self._is_stopped:
            progress = Progress(self.number, self.attempt, ((step, self._desk.checked(metrics)),))
            self._is_stopped = self._desk.say(self, progress) is not Decision.CONTINUE
        self._step = step

    def should_stop(self) -> bool:
        """Returns whether the scheduler has stopped the trial; telling its result is not asked for any more."""
        return self._is_stopped

    @property
    def last_step(self) -> int:
        """The last resource level that was reported; 0 before the first."""
        return self._step


class Desk:
    """A study whose trials its caller evaluates."""

    def __init__(self, keeper: StudyKeeper) -> None:
        self.keeper = keeper
        self._open: dict[int, AskedTrial] = {}
        self._name = keeper.name_worker("ask")  # the caller is a worker of the study
        keeper.all_workers_lost("its process ended")
        keeper.reopen()

    def ask(self) -> AskedTrial:
        """Returns a new trial."""
        answer = self._exchange((), room=len(self._open) + 1)
        if not answer.runs:
            if self.keeper.study.state.suggester.is_exhausted():
                raise InvalidSpecification("every configuration of the grid was asked for; tell what is open")
            raise InvalidSpecification("the study has ended; give it another name to begin a new one")
        order = answer.runs[0]
        trial = self._trial(order)
        self._open[order.trial] = trial
        return trial

    def _trial(self, order: Run) -> AskedTrial:
        return AskedTrial(order.trial, dict(order.params), order.seed, order.attempt, self, order.reported)

    def tell(self, trial: AskedTrial, values: float | Mapping[str, float] | None, error: str) -> None:
        """Takes a trial's end."""
        if trial.number not in self._open:
            if trial.should_stop():
                return
            raise InvalidSpecification(f"trial {trial.number} is not open; every trial is told once")
        if error:
            failure = Failure("error", error, signature=f"{ASKED}: {error[:80]}")
            self.say(trial, Progress(trial.number, trial.attempt, failure=failure))
            return
        reports = () if values is None else ((trial.last_step + 1, self._metrics(values)),)
        if not reports and not trial.last_step:
            raise InvalidSpecification("tell takes a number, metrics by name, or error=; given nothing")
        self.say(trial, Progress(trial.number, trial.attempt, reports, done=True))

    def _metrics(self, values: float | Mapping[str, float]) -> dict[str, float]:
        metric = self.keeper.study.specification.objective.metric
        return self.checked(values if isinstance(values, Mapping) else {metric: values})

    def checked(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Returns the metrics as numbers.

        Raises:
            InvalidSpecification: the objective's is not among them, or one is no number.
        """
        metric = self.keeper.study.specification.objective.metric
        if metric not in metrics:
            raise InvalidSpecification(f"the metric '{metric}' is needed; given {sorted(metrics)}")
        try:
            return {name: float(value) for name, value in metrics.items()}
        except (TypeError, ValueError):
            raise InvalidSpecification(f"metrics are numbers; given {dict(metrics)}") from None

    def say(self, trial: AskedTrial, progress: Progress) -> Decision:
        """Tells the study of a trial and returns what it decided."""
        verdict = self._exchange((progress,), room=0).verdicts[trial.number]
        if verdict.decision is not Decision.CONTINUE:
            self._open.pop(trial.number, None)
        return verdict.decision

    def _exchange(self, progress: tuple[Progress, ...], room: int) -> Answer:
        told = {p.trial for p in progress}
        still = tuple(Progress(t.number, t.attempt) for t in self._open.values() if t.number not in told)
        return self.keeper.exchange(Message(self._name, self.keeper.study.state.epoch, "", still + progress, (), room))

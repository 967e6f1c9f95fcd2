"""One trial as the study knows it: what the events about it add up to."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from orchestrator.domain.space import Configuration
from orchestrator.domain.trials import CheckpointRef, Failure, Objective, TrialState


@dataclass(slots=True)
class Trial:
    """A configuration and everything that happened to it. One writer: the fold in `orchestrator.study.state`."""

    number: int
    params: Configuration
    origin: str
    created_at: float
    state: TrialState = TrialState.WAITING
    attempt: int = 0
    worker: str = ""  # the last one that was told to run it
    reports: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    until: int = 0  # the milestone at which it is judged next
    observed_step: int = 0  # the last step that the search engine knows
    checkpoint: CheckpointRef | None = None  # the latest
    best_checkpoint: CheckpointRef | None = None  # the one at `value_step`
    value: float | None = None  # the best value at a step where it was judged, or at its end
    value_step: int = 0
    failures: list[Failure] = field(default_factory=list)
    crashes: int = 0  # attempts that ended with their worker
    heard_at: float = 0.0  # when it was started, or last reported
    ended_at: float | None = None

    @property
    def last_step(self) -> int:
        """The last resource level that was reported; 0 before the first."""
        return self.reports[-1][0] if self.reports else 0

    @property
    def last_metrics(self) -> Mapping[str, float]:
        """The metrics at the last step."""
        return self.reports[-1][1] if self.reports else {}

    def is_held_by(self, worker: str, attempt: int) -> bool:
        """Whether the worker runs this attempt now."""
        return self.state is TrialState.RUNNING and self.worker == worker and self.attempt == attempt

    def judge(self, objective: Objective) -> None:
        """Takes the value at the last step for the trial's own, where it is the best so far."""
        value = self.last_metrics.get(objective.metric)
        if value is None or not objective.is_better(value, self.value):
            return
        self.value, self.value_step = value, self.last_step
        on_it = self.checkpoint is not None and self.checkpoint.step == self.last_step
        self.best_checkpoint = self.checkpoint if on_it else None

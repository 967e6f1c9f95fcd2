"""A worker that does whatever a property test wants, and never knows more than it was told."""

from dataclasses import dataclass, field

from orchestrator.domain.exchange import ExportResult, Message, Progress
from orchestrator.domain.trials import CheckpointRef, Decision, Failure


@dataclass
class Held:
    """A trial in a simulated worker's hands."""

    attempt: int
    until: int
    step: int
    progress: Progress | None = None


@dataclass
class SimulatedWorker:
    """What a worker remembers; it never knows more than it was told."""

    name: str
    host: str
    room: int
    epoch: int = 0
    held: dict[int, Held] = field(default_factory=dict)
    exports: tuple[ExportResult, ...] = ()

    def message(self):
        said = tuple(held.progress or Progress(trial, held.attempt) for trial, held in self.held.items())
        return Message(self.name, self.epoch, self.host, said, self.exports, self.room)

    def hear(self, answer):
        self.epoch, self.exports = answer.epoch, ()
        for trial, verdict in answer.verdicts.items():
            held = self.held[trial]
            held.progress, held.until = None, verdict.until
            if verdict.decision is not Decision.CONTINUE:
                del self.held[trial]
        for run in answer.runs:
            step = run.checkpoint.step if run.checkpoint else 0
            self.held[run.trial] = Held(run.attempt, run.until, step)
        self.exports = tuple(ExportResult(export.bundle, uri=f"bundles/{export.bundle}") for export in answer.exports)

    def work(self, trial, outcome, saves, loss):
        held = self.held[trial]
        last = held.until if outcome in ("steps", "done") else min(held.until, held.step + 1)
        reports = tuple((step, {"loss": loss(trial, step)}) for step in range(held.step + 1, last + 1))
        failure, done = None, outcome == "done"
        match outcome:
            case "nothing":
                reports = ()
            case "error" | "other error":
                reports, failure = (), Failure("error", outcome, "Traceback …", outcome)
            case "nan":
                reports = tuple((step, {"loss": float("nan")}) for step, _ in reports)
            case "no metric":
                reports = tuple((step, {"los": 1.0}) for step, _ in reports)
        held.step = reports[-1][0] if reports else held.step
        ref = CheckpointRef(held.step, f"checkpoints/{trial}/{held.step}", "0" * 64, 9) if saves and held.step else None
        held.progress = Progress(trial, held.attempt, reports, ref if reports else None, done, failure)

"""A trial's states, the decisions about it, and the records that it leaves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class TrialState(StrEnum):
    """Where a trial stands; the table of moves is in `orchestrator.study.transitions`."""

    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETE = "complete"
    STOPPED = "stopped"
    FAILED = "failed"  # may be retried
    ABANDONED = "abandoned"  # never again

    @property
    def is_over(self) -> bool:
        """Whether nothing more will happen to the trial."""
        return self in _OVER


_OVER = {TrialState.COMPLETE, TrialState.STOPPED, TrialState.ABANDONED}


class Decision(StrEnum):
    """The answer to a report."""

    CONTINUE = "continue"
    PAUSE = "pause"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Objective:
    """What is optimised: one metric, and whether more of it is better."""

    metric: str
    maximize: bool = False

    def loss(self, value: float) -> float:
        """Returns the value on the scale that search and schedulers minimise; not finite becomes +inf."""
        if not math.isfinite(value):
            return math.inf
        return -value if self.maximize else value

    def is_better(self, value: float, than: float | None, margin: float = 0.0) -> bool:
        """Returns whether `value` beats `than` by more than `margin`; anything finite beats None."""
        if not math.isfinite(value):
            return False
        return than is None or self.loss(value) < self.loss(than) - margin


@dataclass(frozen=True, slots=True)
class CheckpointRef:
    """A published checkpoint: where it lies, what it must hash to, and the step it goes on from."""

    step: int
    uri: str
    sha256: str
    size_bytes: int

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {"step": self.step, "uri": self.uri, "sha256": self.sha256, "size_bytes": self.size_bytes}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "CheckpointRef":
        """Returns the reference that `to_dict` wrote."""
        return cls(int(given["step"]), str(given["uri"]), str(given["sha256"]), int(given["size_bytes"]))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a trial failed; `signature` is equal for failures that are alike (error type and the user's line)."""

    cause: str  # "error" | "metric" | "crash" | "timeout" | "memory"
    message: str
    traceback: str = ""
    signature: str = ""

    def to_dict(self) -> dict[str, str]:
        """Returns plain data."""
        return {
            "cause": self.cause,
            "message": self.message,
            "traceback": self.traceback,
            "signature": self.signature,
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Failure":
        """Returns the failure that `to_dict` wrote."""
        return cls(given["cause"], given["message"], given.get("traceback", ""), given.get("signature", ""))

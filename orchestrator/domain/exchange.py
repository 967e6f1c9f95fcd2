"""The one door between workers and the study: what a worker says, and what it is told.

Plain data with a protocol version on the wire (`to_dict`, `from_dict`; fit for JSON), frozen values inside. A message
may come twice: reports are known by their step, and an order that got lost is given again to a worker which does not
mention its trial or its bundle.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.errors import ExchangeRefused
from orchestrator.domain.events import Reports, finite_metrics
from orchestrator.domain.space import Configuration
from orchestrator.domain.trials import CheckpointRef, Decision, Failure

PROTOCOL = 1


@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker has to say of a trial that it holds; empty reports mean "still at it"."""

    trial: int
    attempt: int
    reports: Reports = ()
    checkpoint: CheckpointRef | None = None
    done: bool = False  # the trial came to its own end
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What became of an order to export."""

    bundle: str
    uri: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """One worker's word: of all the trials it holds, and how many it would hold after the answer."""

    worker: str
    epoch: int = 0  # the latest that it heard of; 0 at first
    host: str = ""
    progress: tuple[Progress, ...] = ()
    exports: tuple[ExportResult, ...] = ()
    room: int = 0
    leaving: bool = False  # it ends after the answer, and takes nothing more; what it still holds goes back
    making: tuple[str, ...] = ()  # bundles that it is still at
    returned: tuple[int, ...] = ()  # trials that it lets go of before their time, and that go on later

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for the wire."""
        return {
            "protocol": PROTOCOL,
            "worker": self.worker,
            "epoch": self.epoch,
            "host": self.host,
            "progress": [_progress_to_tuple(progress) for progress in self.progress],
            "exports": [(result.bundle, result.uri, result.error) for result in self.exports],
            "room": self.room,
            "leaving": self.leaving,
            "making": list(self.making),
            "returned": list(self.returned),
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Message":
        """Returns the message that `to_dict` wrote.

        Raises:
            ExchangeRefused: it speaks another protocol.
        """
        _check_protocol(given)
        return cls(
            given["worker"],
            given["epoch"],
            given["host"],
            tuple(_progress_from_tuple(item) for item in given["progress"]),
            tuple(ExportResult(*item) for item in given["exports"]),
            given["room"],
            given["leaving"],
            tuple(given["making"]),
            tuple(given.get("returned", ())),
        )


def _progress_to_tuple(progress: Progress) -> tuple[Any, ...]:
    return (
        progress.trial,
        progress.attempt,
        [(step, finite_metrics(metrics)) for step, metrics in progress.reports],
        progress.checkpoint.to_dict() if progress.checkpoint else None,
        progress.done,
        progress.failure.to_dict() if progress.failure else None,
    )


def _progress_from_tuple(item: tuple[Any, ...]) -> Progress:
    trial, attempt, reports, checkpoint, done, failure = item
    return Progress(
        trial,
        attempt,
        tuple((step, {name: float(value) for name, value in metrics.items()}) for step, metrics in reports),
        CheckpointRef.from_dict(checkpoint) if checkpoint else None,
        done,
        Failure.from_dict(failure) if failure else None,
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision about a held trial, and the milestone up to which it runs before it must be judged."""

    decision: Decision
    until: int


@dataclass(frozen=True, slots=True)
class Run:
    """The order to run a trial: from its checkpoint if it has one, up to the milestone `until`."""

    trial: int
    attempt: int
    params: Configuration
    seed: int
    until: int
    checkpoint: CheckpointRef | None = None
    reported: int = 0  # the last step that the study knows; steps up to it are not counted again


@dataclass(frozen=True, slots=True)
class Export:
    """The order to make a bundle of a checkpoint."""

    bundle: str
    trial: int
    params: Configuration
    seed: int
    checkpoint: CheckpointRef
    value: float | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the study says back.

    `release`: there is no more work, the worker ends. `fenced`: the worker's time is over, whatever it holds is not its
    own any more. `leave`: its room is needed; it saves what it holds, says so, and ends. `wait_seconds`: nothing to do
    now; ask again after that.
    """

    epoch: int
    verdicts: Mapping[int, Verdict] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    exports: tuple[Export, ...] = ()
    release: bool = False
    fenced: bool = False
    wait_seconds: float = 0.0
    batch: int = 1  # how many trials the worker may hold at once, where each takes next to no time
    leave: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data for the wire."""
        return {
            "protocol": PROTOCOL,
            "epoch": self.epoch,
            "verdicts": [(trial, str(v.decision), v.until) for trial, v in self.verdicts.items()],
            "runs": [
                (r.trial, r.attempt, dict(r.params), r.seed, r.until, _ref(r.checkpoint), r.reported) for r in self.runs
            ],
            "exports": [
                (e.bundle, e.trial, dict(e.params), e.seed, e.checkpoint.to_dict(), e.value) for e in self.exports
            ],
            "release": self.release,
            "fenced": self.fenced,
            "wait_seconds": self.wait_seconds,
            "batch": self.batch,
        } | ({"leave": True} if self.leave else {})

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Answer":
        """Returns the answer that `to_dict` wrote.

        Raises:
            ExchangeRefused: it speaks another protocol.
        """
        _check_protocol(given)
        return cls(
            given["epoch"],
            {trial: Verdict(Decision(decision), until) for trial, decision, until in given["verdicts"]},
            tuple(
                Run(t, a, p, s, u, CheckpointRef.from_dict(c) if c else None, r)
                for t, a, p, s, u, c, r in given["runs"]
            ),
            tuple(Export(b, t, p, s, CheckpointRef.from_dict(c), v) for b, t, p, s, c, v in given["exports"]),
            given["release"],
            given["fenced"],
            given["wait_seconds"],
            given["batch"],
            given.get("leave", False),
        )


def _ref(checkpoint: CheckpointRef | None) -> dict[str, Any] | None:
    return checkpoint.to_dict() if checkpoint else None


def _check_protocol(given: Mapping[str, Any]) -> None:
    if given.get("protocol") != PROTOCOL:
        raise ExchangeRefused(
            f"the exchange speaks protocol {PROTOCOL}, the message protocol {given.get('protocol')!r}; "
            "install the same version of orchestrator on every host"
        )

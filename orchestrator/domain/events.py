"""The events of a study: everything that happens to it, as it stands in its journal.

The state of a study is the fold over these. `to_record` gives the plain JSON form, `from_record` reads it back; the
field names are the format. Times (`at`) are seconds since the epoch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from orchestrator.domain.errors import JournalTooNew
from orchestrator.domain.space import Configuration
from orchestrator.domain.trials import CheckpointRef, Decision, Failure

FORMAT = 1  # of the events; a change needs a migration

Reports = Sequence[tuple[int, Mapping[str, float]]]
"""[(step, metrics after that step)], steps rising."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a time."""

    at: float


@dataclass(frozen=True, slots=True)
class Created(Event):
    """The study was asked for: its resolved specification, the code it runs and the versions it ran with."""

    specification: Mapping[str, Any]
    defaults: Mapping[str, Any] | None  # the configuration of somebody who does not tune: trial 0
    code_sha256: str
    versions: Mapping[str, str]
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Opened(Event):
    """A writer took the study over; what ran under earlier writers and is not heard of again is lost."""

    epoch: int
    writer: str
    address: str  # of the Ray cluster; empty without one


@dataclass(frozen=True, slots=True)
class BaselineMeasured(Event):
    """What the trivial predictor reaches on the validation rows, and the data's hash."""

    value: float | None
    data_sha256: str


@dataclass(frozen=True, slots=True)
class Suggested(Event):
    """A new trial exists."""

    trial: int
    params: Configuration
    origin: str  # "default", "search" or "user"


@dataclass(frozen=True, slots=True)
class Started(Event):
    """A worker was told to run the trial from a step (0: from its beginning)."""

    trial: int
    attempt: int
    worker: str
    step: int


@dataclass(frozen=True, slots=True)
class Reported(Event):
    """The trial's metrics at steps that were not reported before."""

    trial: int
    reports: Reports


@dataclass(frozen=True, slots=True)
class Checkpointed(Event):
    """A checkpoint was published."""

    trial: int
    checkpoint: CheckpointRef


@dataclass(frozen=True, slots=True)
class Decided(Event):
    """The answer to what was reported at a milestone."""

    trial: int
    step: int
    decision: Decision


@dataclass(frozen=True, slots=True)
class Finished(Event):
    """The trial reached its end."""

    trial: int


@dataclass(frozen=True, slots=True)
class Failed(Event):
    """The attempt failed; with `retry` another one will follow."""

    trial: int
    attempt: int
    failure: Failure
    retry: bool


@dataclass(frozen=True, slots=True)
class Interrupted(Event):
    """The trial lost its worker through no fault of its own, and will go on from its last checkpoint."""

    trial: int
    cause: str


@dataclass(frozen=True, slots=True)
class Exporting(Event):
    """A worker was told to make a bundle of a trial's checkpoint."""

    trial: int
    step: int
    bundle: str
    purpose: str  # "challenger" or "reference"
    worker: str


@dataclass(frozen=True, slots=True)
class Exported(Event):
    """The bundle is published and answers as its model does."""

    bundle: str
    uri: str


@dataclass(frozen=True, slots=True)
class ExportFailed(Event):
    """No bundle came of it: the model was refused, or its worker is gone (`lost`: it may be tried again)."""

    bundle: str
    message: str
    lost: bool


@dataclass(frozen=True, slots=True)
class Promoted(Event):
    """The endpoint answers with the bundle."""

    bundle: str
    version: str


@dataclass(frozen=True, slots=True)
class Rejected(Event):
    """The bundle will not be the champion, and why."""

    bundle: str
    reason: str


@dataclass(frozen=True, slots=True)
class RolledBack(Event):
    """Somebody made the endpoint answer with an earlier version again; the champion is not put up again."""

    version: str


@dataclass(frozen=True, slots=True)
class Ending(Event):
    """No trial is begun any more."""

    reason: str  # "finished", "exhausted" (no configuration is left), "time", "stopped" or "failing"


@dataclass(frozen=True, slots=True)
class Ended(Event):
    """Nothing runs any more."""


@dataclass(frozen=True, slots=True)
class Reopened(Event):
    """The study goes on within this budget: it had ended, or was given another one."""

    trials: int | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Extended(Event):
    """The study was given more: the budget that it has from now on, and the wider space, if it got one."""

    trials: int | None
    seconds: float | None
    space: Mapping[str, Any] | None = None  # as a study file writes it; trials from now on come from it


_TYPES: Mapping[str, type[Event]] = {
    "created": Created,
    "opened": Opened,
    "baseline": BaselineMeasured,
    "suggested": Suggested,
    "started": Started,
    "reported": Reported,
    "checkpointed": Checkpointed,
    "decided": Decided,
    "finished": Finished,
    "failed": Failed,
    "interrupted": Interrupted,
    "exporting": Exporting,
    "exported": Exported,
    "export_failed": ExportFailed,
    "promoted": Promoted,
    "rejected": Rejected,
    "rolled_back": RolledBack,
    "ending": Ending,
    "ended": Ended,
    "reopened": Reopened,
    "extended": Extended,
}
_NAMES = {kind: name for name, kind in _TYPES.items()}
_FIELDS = {kind: tuple(f.name for f in fields(kind)) for kind in _TYPES.values()}
_FIELD_SETS = {kind: frozenset(names) for kind, names in _FIELDS.items()}

# everything but these may be lost with the work back to the last checkpoint
STORAGE_CLASS = frozenset(_TYPES.values()) - {Reported, Decided}


# how the fields that are not plain JSON are read back
_DECODERS: Mapping[type[Event], tuple[tuple[str, Callable[[Any], Any]], ...]] = {
    Checkpointed: (("checkpoint", CheckpointRef.from_dict),),
    Failed: (("failure", Failure.from_dict),),
    Decided: (("decision", Decision),),
    Reported: (("reports", lambda given: [(step, _to_floats(metrics)) for step, metrics in given]),),
}


def _to_floats(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def to_record(event: Event) -> dict[str, Any]:
    """Returns the event as plain JSON data with finite numbers only (not finite ones become text)."""
    kind = type(event)
    record: dict[str, Any] = {"type": _NAMES[kind]}
    for name in _FIELDS[kind]:
        record[name] = getattr(event, name)
    if kind is Reported:
        record["reports"] = [(step, finite_metrics(metrics)) for step, metrics in record["reports"]]
    elif kind is Checkpointed or kind is Failed:
        field = "checkpoint" if kind is Checkpointed else "failure"
        record[field] = record[field].to_dict()
    elif kind is Suggested:
        record["params"] = dict(record["params"])
    return record


def finite_metrics(metrics: Mapping[str, float]) -> dict[str, float | str]:
    """Returns the metrics with "nan", "inf" and "-inf" as text, which JSON has no numbers for."""
    return {name: value if math.isfinite(value) else str(float(value)) for name, value in metrics.items()}


def from_record(record: Mapping[str, Any]) -> Event:
    """Returns the event that `to_record` wrote.

    Raises:
        JournalTooNew: the type or a field is not known to this version.
    """
    kind = _TYPES.get(record["type"])
    values = dict(record)
    del values["type"]
    if kind is None or not values.keys() <= _FIELD_SETS[kind] or values.get("format", FORMAT) > FORMAT:
        raise JournalTooNew(
            f"the journal holds an event '{record['type']}' that this version does not know; "
            "use the version of orchestrator that wrote it, or a later one"
        )
    for name, decode in _DECODERS.get(kind, ()):
        if name in values:
            values[name] = decode(values[name])
    return kind(**values)

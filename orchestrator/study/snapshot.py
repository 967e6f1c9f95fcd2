"""The state of a study as plain JSON data, for a snapshot of its journal: the fold, without folding again.

The law is that a snapshot and the events behind it give what all events give. So whatever the fold keeps is here: its
own notes too, which no other module touches. `FORMAT` counts for the fold's meaning as well as for the form: where the
same events add up to something else, or a field is added, it goes up, and older snapshots are passed over.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

import orjson

from orchestrator.domain.events import Created, finite_metrics, from_record, to_record
from orchestrator.domain.ranking import Ranking
from orchestrator.domain.space import Space
from orchestrator.domain.specification import Budget, StudySpecification
from orchestrator.domain.trials import CheckpointRef, Failure, TrialState
from orchestrator.study.bundles import BundleRecord, BundleState
from orchestrator.study.state import Phase, SpaceHeld, StudyState
from orchestrator.study.trial import Trial

FORMAT = 1

# what is written down as it is
_PLAIN = (
    "epoch",
    "address",
    "reason",
    "ending_at",
    "requeued",
    "waiting",
    "baseline",
    "data_sha256",
    "lost_exports",
    "promotions",
    "successes",
    "failures",
    "opened_at",
    "_last_at",
    "_earlier_seconds",
)
_COLUMNS = tuple(field.name for field in fields(Trial))[1:]  # a trial's number is its place
_row_of = attrgetter(*_COLUMNS)


def encode(state: StudyState, events: int) -> bytes:
    """Returns the state as JSON; `events` is how many it is the fold of. About 0.5 s for 100,000 trials."""
    odd = [trial.number for trial in state.trials if not _is_finite(trial)]
    rows = list(map(_row_of, state.trials))
    place = _COLUMNS.index("reports")
    for number in odd:
        row = list(rows[number])
        row[place] = [(step, finite_metrics(metrics)) for step, metrics in row[place]]
        rows[number] = tuple(row)
    assert state.created is not None, "a study that was not created has nothing to save"
    whole = {
        "format": FORMAT,
        "events": events,
        "created": to_record(state.created),
        "budget": _budget_to_dict(state.specification.budget),
        "extended_to": state.extended_to and _budget_to_dict(state.extended_to),
        "spaces": [(held.at, held.first_trial, held.space.to_dict()) for held in state.spaces],
        "phase": state.phase,
        "state": {name: getattr(state, name) for name in _PLAIN},
        "held": {worker: sorted(trials) for worker, trials in sorted(state.held.items()) if trials},
        "best": state.best and state.best.number,
        "bundles": list(state.bundles.values()),
        "open_bundle": state._open_bundle and state._open_bundle.bundle,
        "champion": state.champion and state.champion.bundle,
        "ranked": sorted(state._ranked),
        "columns": _COLUMNS,
        "trials": rows,
        "not_finite": odd,
        "search": state.suggester.told(),
        "scheduler": state.scheduler.told(),
    }
    return orjson.dumps(whole, default=dict)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state that was written down."""

    events: int
    created: Created
    space: Space
    _given: Mapping[str, Any]

    @classmethod
    def decode(cls, data: bytes) -> "Snapshot | None":
        """Returns what `encode` wrote; None where that was another version."""
        given = orjson.loads(data)
        if given.get("format") != FORMAT or given["columns"] != list(_COLUMNS):
            return None
        created = from_record(given["created"])
        assert isinstance(created, Created)
        return cls(given["events"], created, Space.from_dict(given["spaces"][-1][2]), given)

    @property
    def asked(self) -> StudySpecification:
        """What the study was created with, in the space that it has by now."""
        return StudySpecification.from_dict(self.created.specification).with_changes(space=self.space)

    def specification(self, asked: StudySpecification) -> StudySpecification:
        """Returns what is asked for now, searched as the study was created, in the space that it has by now."""
        began = self.asked
        return asked.with_changes(space=self.space, engine=began.engine, points=began.points)

    def restore(self, state: StudyState) -> None:
        """Takes it over into a state in which nothing has happened, of `specification`."""
        given = self._given
        state.created = self.created
        state.specification = state.specification.with_changes(budget=Budget.from_dict(given["budget"]))
        state.extended_to = given["extended_to"] and Budget.from_dict(given["extended_to"])
        state.spaces = [SpaceHeld(at, first, Space.from_dict(space)) for at, first, space in given["spaces"]]
        state.phase = Phase(given["phase"])
        for name in _PLAIN:
            setattr(state, name, given["state"][name])
        state.held = {worker: set(trials) for worker, trials in given["held"].items()}
        state.trials = _trials(given["trials"], given["not_finite"])
        state.counts.update(Counter(trial.state for trial in state.trials))
        state.best = None if given["best"] is None else state.trials[given["best"]]
        state.bundles = {record["bundle"]: _bundle(record) for record in given["bundles"]}
        state._open_bundle = state.bundles.get(given["open_bundle"])
        state.champion = state.bundles.get(given["champion"])
        state._ranked = {number: _entry(state, number) for number in given["ranked"]}
        state.ranking = Ranking(state._ranked.values())
        state.scheduler.restore(given["scheduler"])
        state.suggester.restore(given["search"], {trial.number: trial.params for trial in state.trials})


def _is_finite(trial: Trial) -> bool:
    return all(all(map(math.isfinite, metrics.values())) for _, metrics in trial.reports)


def _budget_to_dict(budget: Budget) -> dict[str, Any]:
    return {"trials": budget.trials, "time": budget.seconds}


def _trials(rows: Sequence[Sequence[Any]], odd: Sequence[int]) -> list[Trial]:
    trials = [Trial(number, *row) for number, row in enumerate(rows)]
    for trial in trials:  # plain data until here, turned into values in place: there may be 100,000
        trial.state = TrialState(trial.state)
        trial.reports = [(step, metrics) for step, metrics in trial.reports]
        if trial.checkpoint is not None:
            trial.checkpoint = CheckpointRef.from_dict(trial.checkpoint)  # type: ignore[arg-type]
        if trial.best_checkpoint is not None:
            trial.best_checkpoint = CheckpointRef.from_dict(trial.best_checkpoint)  # type: ignore[arg-type]
        if trial.failures:
            trial.failures = [Failure.from_dict(failure) for failure in trial.failures]  # type: ignore[arg-type]
    for number in odd:
        trials[number].reports = [
            (step, {name: float(value) for name, value in metrics.items()}) for step, metrics in trials[number].reports
        ]
    return trials


def _bundle(record: Mapping[str, Any]) -> BundleRecord:
    values = dict(record)
    values["checkpoint"] = CheckpointRef.from_dict(record["checkpoint"])
    values["state"] = BundleState(record["state"])
    return BundleRecord(**values)


def _entry(state: StudyState, number: int) -> tuple[float, int]:
    value = state.trials[number].value
    assert value is not None, "only who has a value is ranked"
    return state.specification.objective.loss(value), number

"""The laws that hold for a study whatever was killed: computed from its events alone, beside the fold.

Each trial exists exactly once; no report counts twice; trials move as their table allows; rungs, the best value and the
budget equal what the replay says. `violations` names each breach with the trial and the event. What lies on the storage
is checked by whoever can read it, with the references that `referred` returns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from orchestrator.domain.events import (
    Checkpointed,
    Decided,
    Event,
    Exported,
    Failed,
    Finished,
    Interrupted,
    Opened,
    Promoted,
    Reported,
    Started,
    Suggested,
)
from orchestrator.domain.trials import CheckpointRef
from orchestrator.study.bundles import BundleState
from orchestrator.study.state import StudyState


@dataclass(slots=True)
class _Course:
    """What the events say of one trial, counted on its own."""

    suggested: int = 0
    last_step: int = 0
    is_running: bool = False
    is_over: bool = False


def violations(state: StudyState, events: Sequence[Event]) -> list[str]:
    """Returns each breach of a law in a line; an empty list is what one wants to see.

    Args:
        state: what a replay of the events gives.
        events: all events of the study's journal, in order.
    """
    courses: dict[int, _Course] = {}
    found = [breach for event in events for breach in _walk(courses, event)]
    found += [*_epochs(events), *_promotions(events)]
    found += _against_replay(state, courses, events)
    return found


def _walk(courses: dict[int, _Course], event: Event) -> Iterator[str]:
    number = getattr(event, "trial", None)
    if number is None:
        return
    course = courses.setdefault(number, _Course())
    where = f"trial {number}, {type(event).__name__.lower()} at {event.at:.3f}"
    match event:
        case Suggested():
            course.suggested += 1
            if course.suggested > 1:
                yield f"{where}: it exists twice"
            if number != len(courses) - 1:
                yield f"{where}: numbers are not given out one after the other"
        case Started():
            if course.is_running:
                yield f"{where}: it runs twice at once"
            if course.is_over:
                yield f"{where}: it was over"
            course.is_running = True
        case Reported():
            yield from _walk_reports(course, event, where)
        case Checkpointed():
            if event.checkpoint.step > course.last_step:
                yield f"{where}: a checkpoint of step {event.checkpoint.step} before that step was reported"
        case Decided():
            course.is_running = event.decision == "continue"
            course.is_over = event.decision == "stop"
        case Finished():
            course.is_running, course.is_over = False, True
        case Failed():
            course.is_running, course.is_over = False, not event.retry
        case Interrupted():
            course.is_running = False
        case _:
            return
    if not course.suggested:
        yield f"{where}: it never began to exist"


def _walk_reports(course: _Course, event: Reported, where: str) -> Iterator[str]:
    if not course.is_running:
        yield f"{where}: it does not run"
    for step, _ in event.reports:
        if step <= course.last_step:
            yield f"{where}: step {step} counts twice"
        course.last_step = max(course.last_step, step)


def _epochs(events: Sequence[Event]) -> Iterator[str]:
    last = 0
    for event in events:
        if isinstance(event, Opened):
            if event.epoch <= last:
                yield f"epoch {event.epoch} at {event.at:.3f} begins after epoch {last}"
            last = event.epoch


def _promotions(events: Sequence[Event]) -> Iterator[str]:
    exported: set[str] = set()
    for event in events:
        if isinstance(event, Exported):
            exported.add(event.bundle)
        elif isinstance(event, Promoted) and event.bundle not in exported:
            yield f"bundle {event.bundle} at {event.at:.3f} was promoted and never exported"


def _against_replay(state: StudyState, courses: Mapping[int, _Course], events: Sequence[Event]) -> Iterator[str]:
    if len(state.trials) != len(courses):
        yield f"the replay has {len(state.trials)} trials, the events {len(courses)}"
    budget = state.specification.budget.trials
    searched = sum(trial.origin != "user" for trial in state.trials)
    if budget is not None and searched > budget:
        yield f"{searched} trials were begun, {budget} were allowed"
    for trial in state.trials:
        course = courses.get(trial.number, _Course())
        if trial.last_step != course.last_step:
            yield f"trial {trial.number}: the replay stands at step {trial.last_step}, the events at {course.last_step}"
    yield from _rungs(state)
    yield from _best(state, events)


def _rungs(state: StudyState) -> Iterator[str]:
    rungs = state.scheduler.rungs()
    levels = [rung["resource"] for rung in rungs]
    reached = [level for trial in state.trials for level in _reached(levels, [step for step, _ in trial.reports])]
    for rung in rungs:
        reported = reached.count(rung["resource"])
        if rung["trials"] != reported:
            yield f"rung {rung['resource']} holds {rung['trials']} trials, {reported} reported there"


def _reached(levels: Sequence[int], steps: Sequence[int]) -> Iterator[int]:
    """Yields the levels at which a trial was compared: of those that one report passes over, the lowest."""
    for before, step in pairwise([0, *steps]):
        yield from [level for level in levels if before < level <= step][:1]


def _best(state: StudyState, events: Sequence[Event]) -> Iterator[str]:
    objective = state.specification.objective
    best: float | None = None
    latest: dict[int, float] = {}
    for event in events:
        match event:
            case Reported():
                latest[event.trial] = event.reports[-1][1].get(objective.metric, float("nan"))
            case Decided() | Finished() if event.trial in latest and objective.is_better(latest[event.trial], best):
                best = latest[event.trial]
            case _:
                pass
    said = None if state.best is None else state.best.value
    if said != best:
        yield f"the replay's best value is {said}, the events' is {best}"


def referred(state: StudyState) -> tuple[list[CheckpointRef], list[str]]:
    """Returns the checkpoints and the bundles' addresses that the study still refers to."""
    checkpoints: dict[str, CheckpointRef] = {}
    for trial in state.trials:
        for ref in (trial.checkpoint, trial.best_checkpoint):
            if ref is not None:
                checkpoints[ref.uri] = ref
    for record in state.bundles.values():
        if record.state is BundleState.EXPORTING:
            checkpoints[record.checkpoint.uri] = record.checkpoint
    bundles = [record.uri for record in state.bundles.values() if record.uri]
    return list(checkpoints.values()), bundles


def summary(state: StudyState) -> dict[str, Any]:
    """Returns what was checked, for the line that says that all is well."""
    checkpoints, bundles = referred(state)
    return {
        "trials": len(state.trials),
        "reports": sum(len(trial.reports) for trial in state.trials),
        "checkpoints": len(checkpoints),
        "bundles": len(bundles),
        "promotions": state.promotions,
    }

"""A study out of its journal: from the newest snapshot and the events behind it, or from all events.

For the one writer, who goes on with it, and for those who only look, who need neither the search engine nor Ray.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

from orchestrator.domain.errors import InvalidTransition, JournalDamaged
from orchestrator.domain.events import from_record
from orchestrator.domain.space import Configuration, Space
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import AnyStorage, Journal, read_journal, resume_journal
from orchestrator.schedulers import make_scheduler
from orchestrator.search import make_suggester
from orchestrator.study.collector import collector_at_rest
from orchestrator.study.layout import Layout
from orchestrator.study.snapshot import Snapshot, encode
from orchestrator.study.study import Study

Batches = Iterable[list[dict[str, Any]]]


def new_study(specification: StudySpecification) -> Study:
    """Returns a study with its own search engine and scheduler, in which nothing has happened."""
    suggester = make_suggester(specification.engine, specification.space, specification.seed, specification.points)
    return Study(specification, suggester, make_scheduler(specification.scheduler))


def rebuild(specification: StudySpecification, journal: Journal) -> tuple[Study, int, int]:
    """Returns the study that goes on from a journal under a specification, new where that is empty.

    Also how many events it is the fold of, and how many of them a snapshot stands for.

    Raises:
        JournalDamaged, JournalTooNew: see `Journal.read` and `replay`.
    """
    state, batches = journal.resume()
    with collector_at_rest():
        snapshot = (
            None if state is None else _restored(state, lambda known: new_study(known.specification(specification)))
        )
        if snapshot is not None:
            study, saved = snapshot
            return study, saved + replay(study, batches), saved
        first, whole = _first_of(batches if state is None else journal.read())
        study = new_study(_as_created(specification, first))
        return study, replay(study, whole), 0


def read_study(storage: AnyStorage, name: str) -> Study:
    """Returns the study as its journal has it now; nothing is written and nobody is disturbed.

    Raises:
        UnknownStudy: there is none of that name.
        JournalDamaged, JournalTooNew: it cannot be read.
    """
    journal = Layout(storage, name).require().journal
    state, batches = resume_journal(journal)
    with collector_at_rest():
        snapshot = None if state is None else _restored(state, lambda known: _unasked(known.asked))
        if snapshot is not None:
            replay(snapshot[0], batches)
            return snapshot[0]
        first, whole = _first_of(batches if state is None else read_journal(journal))
        for record in first:
            if record["type"] == "created":
                study = _unasked(StudySpecification.from_dict(record["specification"]))
                replay(study, whole)
                return study
    raise JournalDamaged(f"the journal of study '{name}' on {storage} does not say what was asked for")


def snapshot_breaches(storage: AnyStorage, name: str) -> list[str]:
    """Returns a line where the newest snapshot that would be used is not what the events before it add up to.

    Raises:
        UnknownStudy, JournalDamaged, JournalTooNew: as `read_study`.
    """
    journal = Layout(storage, name).require().journal
    state, _ = resume_journal(journal)
    saved = None if state is None else _restored(state, lambda known: _unasked(known.asked))
    if saved is None:
        return []
    study, events = saved
    created = study.state.created
    assert created is not None, "a snapshot is of a study that was created"
    replayed = _unasked(StudySpecification.from_dict(created.specification))
    with collector_at_rest():
        replay(replayed, _first_events(read_journal(journal), events))
        if encode(replayed.state, events) == encode(study.state, events):
            return []
    return [f"the newest snapshot is not what the {events} events before it add up to; delete the journal's *.snapshot"]


def _first_events(batches: Batches, count: int) -> Batches:
    for batch in batches:
        if count <= 0:
            return
        yield batch
        count -= len(batch)


def replay(study: Study, batches: Batches) -> int:
    """Takes the batches of a journal into a study; returns how many events they held.

    Raises:
        JournalDamaged: an event cannot follow those before it.
    """
    events = 0
    for number, batch in enumerate(batches, start=1):
        events += len(batch)
        for record in batch:
            try:
                study.state.apply(from_record(record))
            except (LookupError, AssertionError, TypeError, InvalidTransition) as error:
                raise JournalDamaged(
                    f"batch {number} of study '{study.specification.study}' holds an event "
                    f"'{record.get('type')}' that cannot follow those before it ({error!r})"
                ) from error
    return events


def _restored(state: bytes, make: Callable[[Snapshot], Study]) -> tuple[Study, int] | None:
    """Returns the study of a snapshot and its events; None where it was written for another version or study."""
    try:
        snapshot = Snapshot.decode(state)
        if snapshot is None:
            return None
        study = make(snapshot)
        snapshot.restore(study.state)
    except (LookupError, TypeError, ValueError, AssertionError):  # its bytes are right: another version meant them
        return None
    return study, snapshot.events


def _first_of(batches: Batches) -> tuple[list[dict[str, Any]], Batches]:
    rest = iter(batches)
    first = next(rest, [])
    return first, chain([first], rest)


def _as_created(specification: StudySpecification, batch: list[dict[str, Any]]) -> StudySpecification:
    """Returns the specification with what its study began with, as the first batch of its journal says."""
    for record in batch:
        if record["type"] == "created":
            began = StudySpecification.from_dict(record["specification"])
            return specification.with_changes(space=began.space, engine=began.engine, points=began.points)
    return specification


def _unasked(specification: StudySpecification) -> Study:
    return Study(specification, _Unasked(), make_scheduler(specification.scheduler))


class _Unasked:
    """Stands where a search engine would, for those who only read."""

    def suggest(self, trial: int) -> dict[str, Any]:
        raise AssertionError("a reader asks for no suggestion")

    def is_exhausted(self) -> bool:
        raise AssertionError("a reader asks for no suggestion")

    def started(self, trial: int, configuration: Configuration) -> None:
        pass

    def observed(self, trial: int, resource: int, loss: float) -> None:
        pass

    def ended(self, trial: int, *, failed: bool) -> None:
        pass

    def widened(self, space: Space) -> None:
        pass

    def told(self) -> None:
        return None

    def restore(self, told: object, configurations: Mapping[int, Configuration]) -> None:
        pass

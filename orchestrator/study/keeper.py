"""The study with its journal: every decision is written down before anybody hears of it.

`StudyKeeper` is what a study actor, an inline run and ask/tell hold. `read_study` is for everybody else: it replays the
journal without becoming its writer, and needs neither the search engine nor Ray.
"""

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from orchestrator.domain.clock import Clock
from orchestrator.domain.errors import (
    ExchangeRefused,
    InvalidSpecification,
    InvalidTransition,
    JournalDamaged,
    StorageError,
)
from orchestrator.domain.events import STORAGE_CLASS, Created, Event, from_record, to_record
from orchestrator.domain.exchange import Answer, Message
from orchestrator.domain.space import Configuration, Space
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import AnyStorage, Journal, MemoryJournal, open_journal, read_journal
from orchestrator.schedulers import make_scheduler
from orchestrator.search import make_suggester
from orchestrator.study.identity import differences, what_to_do
from orchestrator.study.layout import Layout
from orchestrator.study.study import Study


class JournalOfOneWriter(Journal, Protocol):
    """A journal that its one writer has open."""

    @property
    def epoch(self) -> int:
        """Counts the writers."""

    @property
    def writer(self) -> str:
        """Names this one."""


class StudyKeeper:
    """A study and the journal that holds it. The one writer of both; may be called from several threads.

    Where the journal could not be written (a full disk), the call raises and nobody hears of what was decided; the
    journal writes it first at the next call, and nobody hears anything until it has. Once another writer has taken
    over, every call that decides is refused.
    """

    def __init__(self, study: Study, journal: JournalOfOneWriter, clock: Clock) -> None:
        self.study = study
        self.journal = journal
        self._clock = clock
        self._lock = threading.RLock()
        self._unwritten: list[Event] = []
        self._is_behind = False  # the journal holds what its storage did not take yet
        self._successor: ExchangeRefused | None = None
        self._is_deciding = False
        self._names = itertools.count(1)

    @classmethod
    def open(
        cls,
        specification: StudySpecification,
        clock: Clock,
        *,
        storage: AnyStorage | None,
        defaults: Mapping[str, Any] | None = None,
        code_sha256: str = "",
        versions: Mapping[str, str] | None = None,
        address: str = "",
    ) -> "StudyKeeper":
        """Returns the keeper of a new study, or of one that goes on from its journal (`storage` None: in memory).

        Raises:
            StudyBusy: another process writes it.
            InvalidSpecification: the journal is that of another study.
            JournalDamaged, StorageError: it cannot be read or written.
        """
        journal = open_journal(Layout(storage, specification.study).journal) if storage else MemoryJournal()
        try:
            return cls.of_journal(
                journal,
                specification,
                clock,
                defaults=defaults,
                code_sha256=code_sha256,
                versions=versions or {},
                address=address,
            )
        except Exception:
            journal.close()
            raise

    @classmethod
    def of_journal(
        cls,
        journal: JournalOfOneWriter,
        specification: StudySpecification,
        clock: Clock,
        *,
        defaults: Mapping[str, Any] | None = None,
        code_sha256: str = "",
        versions: Mapping[str, str] | None = None,
        address: str = "",
    ) -> "StudyKeeper":
        """Returns the same on a journal that is open; see `open`."""
        batches = iter(journal.read())
        first = next(batches, [])
        study = new_study(_as_created(specification, first))
        replay(study, itertools.chain([first], batches))
        cls._check_identity(study, specification, code_sha256)
        keeper = cls(study, journal, clock)
        if study.state.created is None:
            keeper._do(
                lambda now: study.create(now, defaults=defaults, code_sha256=code_sha256, versions=versions or {})
            )
        keeper._do(lambda now: study.open(now, epoch=journal.epoch, writer=journal.writer, address=address))
        return keeper

    @staticmethod
    def _check_identity(study: Study, specification: StudySpecification, code_sha256: str) -> None:
        created = study.state.created
        if created is None:
            return
        differing = differences(study.state, specification)
        if differing:
            raise InvalidSpecification(
                f"study '{specification.study}' exists with another {', '.join(differing)}; "
                f"{what_to_do(study.state, specification, differing)}"
            )
        if created.code_sha256 and code_sha256 and created.code_sha256 != code_sha256:
            raise InvalidSpecification(
                f"the code of '{specification.trainable or 'the objective'}' has changed since study "
                f"'{specification.study}' began; give the new study another name, or begin it anew with --fresh"
            )

    def exchange(self, message: Message) -> Answer:
        """Answers a worker once what the answer rests on is in the journal."""
        with self._lock:
            self._begin_deciding()
            events, answer = self.study.exchange(message, self._clock())
            self._write(events)
            self._is_deciding = False
            return answer

    def exchange_wire(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The same with plain data on both sides."""
        return self.exchange(Message.from_dict(message)).to_dict()

    def tick(self) -> None:
        """Looks at the clocks."""
        self._do(self.study.tick)

    def stop(self, reason: str = "stopped") -> None:
        """Begins no more trials."""
        self._do(lambda now: self.study.stop(now, reason))

    def reopen(self) -> None:
        """Goes on with a study that was ended by hand."""
        self._do(self.study.reopen)

    def extend(self, *, trials: int | None = None, seconds: float | None = None, space: Space | None = None) -> None:
        """Goes on within a larger budget, in a wider space, or both."""
        self._do(lambda now: self.study.extend(now, trials=trials, seconds=seconds, space=space))

    def rolled_back(self, version: str) -> None:
        """Records that the endpoint answers with an earlier version again."""
        self._do(lambda now: self.study.rolled_back(version, now))

    def measured(self, *, baseline: float | None, data_sha256: str) -> None:
        """Records what the trivial predictor reaches."""
        self._do(lambda now: self.study.measured(now, baseline=baseline, data_sha256=data_sha256))

    def enqueue(self, params: Configuration) -> None:
        """Adds a trial with a configuration of the user's."""
        self._do(lambda now: self.study.enqueue(params, now))

    def shrink(self, workers: int) -> None:
        """Keeps no more than so many workers."""
        with self._lock:
            self.study.shrink(workers, self._clock())

    def beat(self, host: str) -> None:
        """Takes a host's sign of life."""
        with self._lock:
            self.study.beat(host, self._clock())

    def worker_lost(self, worker: str, *, cause: str, blame: bool) -> None:
        """Takes back what a dead worker held."""
        self._do(lambda now: self.study.worker_lost(worker, now, cause=cause, blame=blame))

    def all_workers_lost(self, cause: str) -> None:
        """Takes back what every earlier worker held."""
        self._do(lambda now: self.study.all_workers_lost(now, cause))

    def promoted(self, bundle: str, version: str) -> None:
        """Records a promotion."""
        self._do(lambda now: self.study.promoted(bundle, version, now))

    def rejected(self, bundle: str, reason: str) -> None:
        """Records that a bundle was refused."""
        self._do(lambda now: self.study.rejected(bundle, reason, now))

    def name_worker(self, kind: str) -> str:
        """Returns a name that no worker had before: one that was given up is refused for ever."""
        return f"{kind}-{self.study.state.epoch}.{next(self._names)}"

    @property
    def is_settled(self) -> bool:
        """Whether the journal holds all that was decided; not so where an interrupt or an error came between."""
        return not self._is_deciding and not self._unwritten and not self._is_behind

    def now(self) -> float:
        """Returns the clock's time."""
        return self._clock()

    def close(self) -> None:
        """Gives the journal up; somebody else may open it."""
        with self._lock:
            self.journal.close()

    def _do(self, decide: Callable[[float], Sequence[Event]]) -> None:
        with self._lock:
            self._begin_deciding()
            self._write(decide(self._clock()))
            self._is_deciding = False

    def _begin_deciding(self) -> None:
        if self._successor is not None:
            raise self._successor
        self._is_deciding = True

    def _write(self, events: Sequence[Event]) -> None:
        self._unwritten += events
        if not self._unwritten and not self._is_behind:
            return
        durable = self._is_behind or any(type(event) in STORAGE_CLASS for event in self._unwritten)
        try:
            self.journal.append([to_record(event) for event in self._unwritten], durable=durable)
        except StorageError:
            self._unwritten, self._is_behind = [], True
            raise
        except ExchangeRefused as error:
            self._successor = error
            raise
        self._unwritten, self._is_behind = [], False


def new_study(specification: StudySpecification) -> Study:
    """Returns a study with its own search engine and scheduler, in which nothing has happened."""
    suggester = make_suggester(specification.engine, specification.space, specification.seed, specification.points)
    return Study(specification, suggester, make_scheduler(specification.scheduler))


def _as_created(specification: StudySpecification, batch: Sequence[Mapping[str, Any]]) -> StudySpecification:
    """Returns the specification with what its study began with, as the first batch of its journal says."""
    for record in batch:
        if record["type"] == "created":
            began = StudySpecification.from_dict(record["specification"])
            return specification.with_changes(space=began.space, engine=began.engine, points=began.points)
    return specification


def replay(study: Study, batches: Any) -> None:
    """Takes the batches of a journal into a study.

    Raises:
        JournalDamaged: an event cannot follow those before it.
    """
    for number, batch in enumerate(batches, start=1):
        for record in batch:
            try:
                study.state.apply(from_record(record))
            except (LookupError, AssertionError, TypeError, InvalidTransition) as error:
                raise JournalDamaged(
                    f"batch {number} of study '{study.specification.study}' holds an event "
                    f"'{record.get('type')}' that cannot follow those before it ({error!r})"
                ) from error


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
        raise AssertionError("a reader writes no snapshot")

    def restore(self, told: object, configurations: Mapping[int, Configuration]) -> None:
        pass


def read_study(storage: AnyStorage, name: str) -> Study:
    """Returns the study as its journal has it now; nothing is written and nobody is disturbed.

    Raises:
        UnknownStudy: there is none of that name.
        JournalDamaged, JournalTooNew: it cannot be read.
    """
    batches = list(read_journal(Layout(storage, name).require().journal))
    for batch in batches:
        for record in batch:
            event = from_record(record)
            if isinstance(event, Created):
                specification = StudySpecification.from_dict(event.specification)
                study = Study(specification, _Unasked(), make_scheduler(specification.scheduler))
                replay(study, batches)
                return study
    raise JournalDamaged(f"the journal of study '{name}' on {storage} does not say what was asked for")

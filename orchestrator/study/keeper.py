"""The study with its journal: every decision is written down before anybody hears of it.

`StudyKeeper` is what a study actor, an inline run and ask/tell hold. Now and then it saves what the events add up to,
so that the next one opens in seconds. `rebuilding` is how a study comes out of its journal.
"""

import itertools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from orchestrator.domain.clock import Clock
from orchestrator.domain.errors import ExchangeRefused, InvalidSpecification, StorageError
from orchestrator.domain.events import STORAGE_CLASS, Event, to_record
from orchestrator.domain.exchange import Answer, Message
from orchestrator.domain.space import Configuration, Space
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import AnyStorage, Journal, MemoryJournal, open_journal
from orchestrator.study.collector import collector_at_rest
from orchestrator.study.identity import differences, what_to_do
from orchestrator.study.layout import Layout
from orchestrator.study.rebuilding import rebuild
from orchestrator.study.snapshot import encode
from orchestrator.study.study import Study

COMPACT_AT = 50_000  # events since the last snapshot: some 8,000 trials, which replay in half a second

DEAF_SECONDS = 1.0  # a storage that answers later keeps the study from hearing its workers


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

    def __init__(
        self, study: Study, journal: JournalOfOneWriter, clock: Clock, *, compact_at: float = COMPACT_AT
    ) -> None:
        self.study = study
        self.journal = journal
        self._clock = clock
        self._lock = threading.RLock()
        self._unwritten: list[Event] = []
        self._is_behind = False  # the journal holds what its storage did not take yet
        self._successor: ExchangeRefused | None = None
        self._is_deciding = False
        self._compact_at = compact_at
        self._events = 0  # in the journal
        self._saved = 0  # of them in its newest snapshot
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
                compact_at=COMPACT_AT if storage else math.inf,  # nobody will open what lies in memory again
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
        compact_at: float = COMPACT_AT,
    ) -> "StudyKeeper":
        """Returns the same on a journal that is open; see `open`."""
        study, events, saved = rebuild(specification, journal)
        cls._check_identity(study, specification, code_sha256)
        keeper = cls(study, journal, clock, compact_at=compact_at)
        keeper._events, keeper._saved = events, saved
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

    def serves_no_more(self, reason: str) -> None:
        """Rejects what waits for an endpoint, and exports nothing more."""
        self._do(lambda now: self.study.serves_no_more(reason, now))

    def enqueue(self, params: Configuration) -> None:
        """Adds a trial with a configuration of the user's."""
        self._do(lambda now: self.study.enqueue(params, now))

    def shrink(self, workers: int, hosts: Mapping[str, int] | None = None) -> None:
        """Keeps no more than so many workers, in all and on each host."""
        with self._lock:
            self.study.shrink(workers, self._clock(), hosts)

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
        self._events += len(events)
        if not self._unwritten and not self._is_behind:
            return
        durable = self._is_behind or any(type(event) in STORAGE_CLASS for event in self._unwritten)
        began = self._clock()
        try:
            self.journal.append([to_record(event) for event in self._unwritten], durable=durable)
        except StorageError:
            self._unwritten, self._is_behind = [], True
            self.study.was_deaf(self._clock())
            raise
        except ExchangeRefused as error:
            self._successor = error
            raise
        finally:
            now = self._clock()
            if now - began > DEAF_SECONDS:
                self.study.was_deaf(now)
        self._unwritten, self._is_behind = [], False
        if self._events - self._saved > max(self._compact_at, self._saved / 2):
            self._compact()

    def _compact(self) -> None:
        """Saves the next opening the events up to here. Half as many again come before the next time.

        What goes wrong with it stops nothing: the events are safe, and the next call says what is wrong.
        """
        saved, self._saved = self._saved, self._events
        try:
            with collector_at_rest():
                self.journal.compact(encode(self.study.state, self._events))
        except (StorageError, ExchangeRefused):
            self._saved = saved
            self._compact_at *= 2

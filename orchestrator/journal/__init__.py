"""Append-only logs of events, and the storages that they and a study's other files lie on.

`port` is a journal's contract; `memory`, `local` and `objects` keep it. A local journal is a directory: `files` reads
it, and `growing` again and again, `records` is the form of one batch, `claim` keeps a second writer away. In an object
store `segments`, `lease` and `spool` do the same, and `packs` makes few objects of many. `snapshots` saves a reader the
beginning. `storage` is any place for files, `publishing` the form of whole directories there, `local_state` where the
host keeps what cannot lie there.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, overload

from orchestrator.journal.files import Log, epoch_files, resume_batches
from orchestrator.journal.growing import GrowingLog
from orchestrator.journal.lease import elapsed_seconds
from orchestrator.journal.local import LocalJournal
from orchestrator.journal.local_state import cache_directory, local_state, scratch
from orchestrator.journal.memory import MemoryJournal
from orchestrator.journal.objects import TTL_SECONDS, ObjectJournal
from orchestrator.journal.port import Event, Journal
from orchestrator.journal.publishing import Published
from orchestrator.journal.segments import read_segments, resume_segments
from orchestrator.journal.storage import AnyStorage, Storage

__all__ = [
    "AnyStorage",
    "Event",
    "GrowingLog",
    "Journal",
    "LocalJournal",
    "MemoryJournal",
    "ObjectJournal",
    "Published",
    "Storage",
    "cache_directory",
    "elapsed_seconds",
    "local_state",
    "open_journal",
    "read_journal",
    "resume_journal",
    "scratch",
]


@overload
def open_journal(place: Path) -> LocalJournal: ...


@overload
def open_journal(place: AnyStorage) -> LocalJournal | ObjectJournal: ...


def open_journal(place: AnyStorage) -> LocalJournal | ObjectJournal:
    """Returns the journal at a place for its one writer, a new epoch of it; makes a directory where needed.

    In an object store this takes as long as a silent writer's time to live, where there is one on another host, and a
    thread keeps the claim until `close`.

    Raises:
        StudyBusy: another process writes it.
        StorageError: the place cannot be written, or what is there cannot be gone on from.
    """
    storage = Storage.of(place)
    if storage.is_local:
        return LocalJournal(storage.local_path)
    journal = ObjectJournal(storage, lease_store=storage.patient(TTL_SECONDS / 4))
    journal.keep_renewed()
    return journal


def read_journal(place: AnyStorage) -> Iterator[list[dict[str, Any]]]:
    """Yields the batches of the journal at a place, without a claim; a writer may be at work meanwhile.

    Raises:
        StorageError: the place cannot be read (at once).
        JournalDamaged, JournalTooNew: see the port (in an object store at once or while reading).
    """
    storage = Storage.of(place)
    return Log.of(epoch_files(storage.local_path)).read() if storage.is_local else read_segments(storage)


def resume_journal(place: AnyStorage) -> tuple[bytes | None, Iterator[list[dict[str, Any]]]]:
    """Returns the state of the newest snapshot and the batches behind it, or None and all; see `Journal.resume`.

    Raises:
        StorageError: the place cannot be read (at once).
        JournalDamaged, JournalTooNew: see the port (at once or while reading).
    """
    storage = Storage.of(place)
    return resume_batches(storage.local_path) if storage.is_local else resume_segments(storage)

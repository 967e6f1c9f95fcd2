"""Append-only logs of events.

`port` is the contract; `memory` and `local` keep it. A local journal is a directory: `files` reads it, `records` is the
form of one batch, `claim` keeps a second writer away.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.journal.files import epoch_files, read_batches
from orchestrator.journal.local import LocalJournal
from orchestrator.journal.memory import MemoryJournal
from orchestrator.journal.port import Event, Journal

__all__ = ["Event", "Journal", "LocalJournal", "MemoryJournal", "open_journal", "read_journal"]


def open_journal(directory: Path) -> LocalJournal:
    """Returns the journal in `directory` for its one writer, a new epoch of it; makes the directory where needed.

    Raises:
        StudyBusy: another process writes it.
        StorageError: the directory cannot be written, or what is there cannot be gone on from.
    """
    return LocalJournal(Path(directory))


def read_journal(directory: Path) -> Iterator[list[dict[str, Any]]]:
    """Yields the batches of the journal in `directory`, without a claim; a writer may be at work meanwhile.

    Raises:
        StorageError: the directory cannot be read (at once).
        JournalDamaged, JournalTooNew: see the port (while reading).
    """
    return read_batches(epoch_files(Path(directory)))

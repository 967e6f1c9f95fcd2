"""Who did what at an endpoint's doors: token changes, decisions that were refused, and refused authentications.

JSON lines in `audit/<day>.jsonl` beside the endpoint's journal, one file for whoever writes; on a disk only its owner
may read it. In an object store, which has no append, each writing is an object. What changed the endpoint stands in its
journal, with who and from where, and is not written twice: `trail` puts both together. No line ever holds a secret.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from deploy.access.private_files import OWNER_ONLY, OWNER_ONLY_FOLDER
from deploy.places import endpoint_place, journal_directory
from deploy.rollout.history import changes
from orchestrator.domain.errors import StorageError
from orchestrator.journal import AnyStorage, read_journal

FOLDER = "audit"
SUFFIX = ".jsonl"
DONE, REFUSED, UNCHANGED = "done", "refused", "unchanged"


@dataclass(frozen=True, slots=True)
class Entry:
    """What somebody did, or was kept from: at what time, who (a token's name, or a user), from where, how it ended.

    `times` is how often it happened since `at`, where it was refused and happened many times.
    """

    at: str
    who: str
    what: str
    outcome: str
    origin: str = ""
    detail: str = ""
    times: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Entry":
        """Returns the entry that `to_dict` wrote; keys of a later version are left out.

        Raises:
            KeyError, TypeError, ValueError: it did not write that.
        """
        texts = {key: str(given.get(key, "")) for key in ("origin", "detail")}
        told = {key: str(given[key]) for key in ("at", "who", "what", "outcome")}
        return cls(**told, **texts, times=int(given.get("times", 1)))


class AuditLog:
    """Appends to an endpoint's log. Any number of them may do so at once, in any process."""

    def __init__(self, storage: AnyStorage, name: str) -> None:
        self._place = endpoint_place(storage, name).child(FOLDER)
        self.is_local = self._place.is_local

    def append(self, entries: Sequence[Entry]) -> None:
        """Brings entries to the storage.

        Raises:
            StorageError: it cannot be written.
        """
        if not entries:
            return
        lines = "".join(f"{json.dumps(entry.to_dict(), ensure_ascii=False)}\n" for entry in entries).encode()
        now = datetime.now(UTC)
        if not self._place.is_local:
            self._place.write_new(f"{now:%Y-%m-%d.%H%M%S}.{secrets.token_hex(6)}{SUFFIX}", lines)
            return
        path = self._place.local_path / f"{now:%Y-%m-%d}{SUFFIX}"
        try:
            path.parent.mkdir(mode=OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, OWNER_ONLY)
            with os.fdopen(descriptor, "ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # on a network's disk two appends at once may overwrite each other
                file.write(lines)
                file.flush()
                os.fsync(descriptor)
        except OSError as error:
            raise StorageError(f"the audit log {path} cannot be written ({error.strerror})") from error

    def read(self) -> Iterator[Entry]:
        """Yields all entries, file by file; a line that a crash cut off is passed over.

        Raises:
            StorageError: it cannot be read.
        """
        for data in self._place.read_many(self._place.names()):
            for line in data.decode("utf-8", "replace").splitlines():
                entry = _parsed(line)
                if entry is not None:
                    yield entry


def trail(storage: AnyStorage, name: str) -> list[Entry]:
    """Returns everything that is known of who did what, in the order of time: the log, and the journal's changes.

    Raises:
        StorageError: it cannot be read.
        JournalDamaged, JournalTooNew: the journal cannot be trusted, or is of a later version.
    """
    journal = journal_directory(storage, name)
    batches: Iterable[Any] = read_journal(journal) if journal.names() else []
    return sorted([*AuditLog(storage, name).read(), *_decisions(batches)], key=lambda entry: entry.at)


def now_text() -> str:
    """Returns the time, as the journal's events have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _decisions(batches: Iterable[Any]) -> Iterator[Entry]:
    for change in changes(batches):
        what = change.event if change.version is None else f"{change.event} version {change.version}"
        yield Entry(change.at, change.who, what, DONE, change.origin, change.why)


def _parsed(line: str) -> Entry | None:
    try:
        return Entry.from_dict(json.loads(line))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None

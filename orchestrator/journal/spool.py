"""What a journal in an object store keeps on its host's disk: batches that are not on the storage yet, and who lives.

The batches of a segment to be lie in a file of the segment's name until it is on the storage, so that a writer which
dies and is started again on this host loses none. A lock file for each writer, which dies with its process, tells
a successor on the same host that it need not wait.
"""

import fcntl
import os
import re
from hashlib import sha256
from pathlib import Path

from orchestrator.journal.records import record_end
from orchestrator.journal.segments import Segment

NAME = re.compile(r"(\d{8})-([A-Za-z0-9._]+)-(\d{8})\.spool")


class Spool:
    """The folder of one journal on this host. One writer of its own files; raises OSError."""

    def __init__(self, root: Path, uri: str, writer: str) -> None:
        self._folder = root / sha256(uri.encode()).hexdigest()[:16]
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._writer = writer
        self._open: tuple[Path, int] | None = None
        self.is_whole = True  # whether every batch that is not on the storage is here
        self._lock = os.open(self._folder / f"{writer}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def is_dead(self, writer: str) -> bool:
        """Returns whether that writer ran on this host and its process has ended; False where we cannot know."""
        try:
            handle = os.open(self._folder / f"{writer}.lock", os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(handle)
        return True

    def add(self, segment: Segment, record: bytes) -> None:
        """Hands a batch that will ride in `segment` to the operating system."""
        path = self._path(segment)
        if self._open is None or self._open[0] != path:
            self._close()
            self._open = (path, os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
        handle = self._open[1]
        size = os.fstat(handle).st_size
        try:
            written = os.write(handle, record)
            while written < len(record):
                written += os.write(handle, record[written:])
        except OSError:
            self.is_whole = False
            os.ftruncate(handle, size)
            raise

    def drop(self, segment: Segment) -> None:
        """Forgets the batches of a segment that is on the storage."""
        path = self._path(segment)
        if self._open is not None and self._open[0] == path:
            self._close()
        path.unlink(missing_ok=True)

    def left_by(self, last: Segment | None) -> list[bytes]:
        """Returns the records that the writer of the journal's last segment had not brought to the storage."""
        records: list[bytes] = []
        while last is not None:
            last = Segment(last.epoch, last.writer, last.number + 1)
            try:
                data = self._path(last).read_bytes()
            except FileNotFoundError:
                break
            start = 0
            while (end := record_end(data, start)) is not None:
                records.append(data[start:end])
                start = end
        return records

    def clean(self) -> None:
        """Removes what earlier writers left, once it is on the storage or stands for nothing any more."""
        for path in self._folder.iterdir():
            match = NAME.fullmatch(path.name)
            dead_lock = path.suffix == ".lock" and path.stem != self._writer and self.is_dead(path.stem)
            if dead_lock or (match and match[2] != self._writer):
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Gives the lock back."""
        self._close()
        if self._lock >= 0:
            (self._folder / f"{self._writer}.lock").unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def _close(self) -> None:
        if self._open is not None:
            os.close(self._open[1])
            self._open = None

    def _path(self, segment: Segment) -> Path:
        return self._folder / segment.name.replace(".seg", ".spool")

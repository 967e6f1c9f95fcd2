"""The claim of a journal's one writer: an exclusive lock that dies with its process.

The lock file also says who holds it, for the message that the next one gets and for the fence: a former writer, whose
lock was lost without its knowing (a lock file removed by hand, a file system that does not lock), finds another name
in it. A child made by `os.fork` without `exec` shares the lock; nothing here forks.
"""

import fcntl
import os
import re
import socket
from datetime import UTC, datetime
from pathlib import Path

import orjson

from orchestrator.domain.errors import StudyBusy

LOCK = "writer.lock"
LONGEST_HOLDER = 512  # bytes


class Claim:
    """The lock on a journal's directory, held by this process until `release`.

    Raises:
        StudyBusy: somebody else holds it; the message names the process and its host.
    """

    def __init__(self, directory: Path) -> None:
        self.host = socket.gethostname()
        self.writer = f"{re.sub(r'[^A-Za-z0-9.]', '_', self.host)[:48]}.{os.getpid()}"
        self._holder = b""
        self._handle = _lock(directory / LOCK)

    def sign(self, epoch: int) -> None:
        """Writes into the lock file who holds it, so that a former writer sees it."""
        self._holder = orjson.dumps(
            {"pid": os.getpid(), "host": self.host, "epoch": epoch, "writer": self.writer},
            option=orjson.OPT_APPEND_NEWLINE,
        )
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, self._holder, 0)

    def is_signed_by_us(self) -> bool:
        """Returns whether nobody signed the lock file after us (1 µs)."""
        return os.pread(self._handle, LONGEST_HOLDER, 0) == self._holder

    def is_on_disk(self) -> bool:
        """Returns whether the lock file is still there; without it another writer may have come (1 µs)."""
        return os.fstat(self._handle).st_nlink > 0

    def release(self) -> None:
        """Gives the lock back."""
        os.close(self._handle)


def _lock(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = _who(handle, path)
            os.close(handle)
            raise StudyBusy(message) from None
        except OSError:
            os.close(handle)
            raise
        if os.fstat(handle).st_nlink > 0:
            return handle
        os.close(handle)  # removed between open and lock: take the file that is there now


def _who(handle: int, path: Path) -> str:
    since = datetime.fromtimestamp(os.fstat(handle).st_mtime, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    try:
        holder = orjson.loads(os.pread(handle, LONGEST_HOLDER, 0))
        who = f"process {holder['pid']} on host {holder['host']}, since {since}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        who = "a process that has not yet written its name"
    return (
        f"the journal in {path.parent} is being written by {who}; one writer at a time is allowed: "
        "watch that one, stop it, or wait until it ends (its claim ends with its process)"
    )

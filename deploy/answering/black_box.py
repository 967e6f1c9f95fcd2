"""What a process was about when it died: whether it computed for a challenger just then.

A challenger that ends its process leaves no count and no message. So each replica keeps a small file, mapped into its
memory: in which rollout, and how many computations for its challenger are under way. The file outlives the process, the
lock on it does not: whoever finds one without its lock knows that its process is gone, and reads what it was about.
Where a whole host goes, nobody finds the file, and nobody is blamed.
"""

import fcntl
import hashlib
import mmap
import os
import secrets
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATE = struct.Struct("<QQ")  # the rollout, and how many computations of it are under way
_ENDING = ".box"


@dataclass(frozen=True, slots=True)
class Death:
    """A process that ended while it computed for a challenger: its box's name, and the rollout's number."""

    box: str
    rollout: int


def box_folder(storage: str, name: str) -> Path:
    """Returns where the replicas of an endpoint keep their boxes on this host."""
    endpoint = hashlib.sha256(f"{storage}\n{name}".encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"orchestrator-replicas-{os.getuid()}" / endpoint


class BlackBox:
    """This process's own file. Used by several threads.

    Raises:
        OSError: the folder cannot be written to, or is somebody else's.
    """

    def __init__(self, folder: Path) -> None:
        own_folder(folder)
        self._rollout = self._computing = 0
        self._lock = threading.Lock()
        path = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.truncate(self._descriptor, _STATE.size)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        self._memory = mmap.mmap(self._descriptor, _STATE.size)
        path.rename(path.with_suffix(_ENDING))  # from now on others look at it, and find it locked

    @contextmanager
    def computing(self, rollout: int) -> Iterator[None]:
        """Says, for the time of a `with` block, that something is computed for the challenger of a rollout."""
        self._count(1, rollout)
        try:
            yield
        finally:
            self._count(-1, rollout)

    def _count(self, more: int, rollout: int) -> None:
        with self._lock:
            self._computing += more
            self._rollout = max(self._rollout, rollout)
            _STATE.pack_into(self._memory, 0, self._rollout, self._computing)


def deaths(folder: Path) -> list[Death]:
    """Returns who died computing, and takes away the boxes of those that died otherwise.

    The same death is found again until `forget`.

    Raises:
        OSError: the folder is there and cannot be read.
    """
    found = []
    for path in sorted(folder.glob(f"*{_ENDING}")):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:  # another replica was faster
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            rollout, computing = _STATE.unpack(os.pread(descriptor, _STATE.size, 0))
        except BlockingIOError:  # it lives
            continue
        finally:
            os.close(descriptor)
        if computing:
            found.append(Death(path.stem, rollout))
        else:
            path.unlink(missing_ok=True)
    return found


def forget(folder: Path, death: Death) -> None:
    """Takes away the box of a death that was told."""
    (folder / f"{death.box}{_ENDING}").unlink(missing_ok=True)


def own_folder(folder: Path) -> None:
    """Makes the folder, for this user alone.

    Raises:
        OSError: it cannot be made, or is somebody else's.
    """
    for each in (folder.parent, folder):
        each.mkdir(mode=0o700, exist_ok=True)
        if each.stat().st_uid != os.getuid():
            raise PermissionError(f"{each} belongs to somebody else")

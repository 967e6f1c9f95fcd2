"""What belongs to a storage and is of this host only: its session, the copies of what lies in an object store."""

import os
import shutil
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from orchestrator.journal.storage import AnyStorage, Storage


def local_state(storage: AnyStorage) -> Path:
    """Returns the directory for it, which may not exist: a disk's storage itself, else one in `cache_directory`."""
    place = Storage.of(storage)
    if place.is_local:
        return place.local_path
    return cache_directory() / sha256(place.uri.encode()).hexdigest()[:16]


def cache_directory() -> Path:
    """Returns `~/.cache/orchestrator`, or the same below XDG_CACHE_HOME; whatever is in it can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "orchestrator"


def scratch(storage: AnyStorage, purpose: str) -> Path:
    """Returns a directory for files that this process makes and takes away; what dead processes left there goes.

    Raises:
        OSError: it cannot be made.
    """
    place = local_state(storage) / "scratch"
    own = place / f"{purpose}-{os.getpid()}"
    own.mkdir(mode=0o700, parents=True, exist_ok=True)
    for other in place.iterdir():
        pid = other.name.rpartition("-")[2]
        if pid.isdigit() and not _runs(int(pid)):
            shutil.rmtree(other, ignore_errors=True)
    return own


def _runs(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True

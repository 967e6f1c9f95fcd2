"""What belongs to a storage and is of this host only: its session, the copies of what lies in an object store."""

import os
import re
import shutil
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp

from orchestrator.journal.storage import AnyStorage, Storage

OWNER = re.compile(r"\w+\.(\d+)\.\w+")  # a scratch directory's name, with its process


def local_state(storage: AnyStorage) -> Path:
    """Returns the directory for it, which may not exist: a disk's storage itself, else one in `cache_directory`."""
    place = Storage.of(storage)
    if place.is_local:
        return place.local_path
    return cache_directory() / sha256(place.uri.encode()).hexdigest()[:16]


def cache_directory() -> Path:
    """Returns `~/.cache/orchestrator`, or the same below XDG_CACHE_HOME; whatever is in it can be made again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "orchestrator"


def scratch(purpose: str) -> Path:
    """Returns a new directory for files that its caller takes away; what dead processes left is taken away here.

    Raises:
        OSError: it cannot be made.
    """
    place = cache_directory() / "scratch"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    for other in place.iterdir():
        owner = OWNER.fullmatch(other.name)
        if owner and not _runs(int(owner[1])):
            shutil.rmtree(other, ignore_errors=True)
    return Path(mkdtemp(prefix=f"{purpose}.{os.getpid()}.", dir=place))


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

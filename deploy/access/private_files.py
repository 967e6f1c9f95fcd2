"""Files on a disk that hold what only their owner may read: whole under their names, or not there."""

import os
import secrets
from pathlib import Path

from orchestrator.journal.disk import PART, sync_folder

OWNER_ONLY = 0o600
OWNER_ONLY_FOLDER = 0o700


def write_private(path: Path, data: bytes, *, is_new: bool = False) -> None:
    """Makes a file that its owner alone may read, or replaces one, and brings it to the disk.

    Args:
        path: of the file; its folder is there.
        data: its content.
        is_new: whether a file of that name is an error.

    Raises:
        FileExistsError: there is one, and it had to be new.
        OSError: the disk refused.
    """
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}{PART}")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if is_new:
            os.link(beside, path)
        else:
            beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)

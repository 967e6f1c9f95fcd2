"""An outage of what a study is kept on: told from the user's own faults, and lived through.

A full disk breaks whatever code happens to write on it, in that code's own words: torch raises a RuntimeError. No trial
is to blame for it, so whoever writes for a trial asks the disk when something went wrong.
"""

import errno
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from orchestrator.domain.errors import JournalDamaged, JournalTooNew, NotAsPublished, StorageError

T = TypeVar("T")

OUTAGE_SECONDS = 60.0  # without its study's storage a worker keeps what it holds for so long
RETRY_SECONDS = 1.0
FAULTS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE}  # of a disk, whoever meets them
PROBE_BYTES = 1 << 20  # what a disk with room takes; the last kilobytes of a full one may be free


def is_outage(error: object) -> bool:
    """Returns whether an error says that the storage cannot be used now; what was damaged on it stays so."""
    return isinstance(error, StorageError) and not isinstance(error, NotAsPublished | JournalDamaged | JournalTooNew)


def outlast(
    action: Callable[[], T],
    *,
    seconds: float = OUTAGE_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> T:
    """Returns what the action does, tried again while the storage is away.

    Raises:
        StorageError: the storage was away for all of the time; at once where it is none that passes.
    """
    deadline = clock() + seconds
    while True:
        try:
            return action()
        except StorageError as error:
            if not is_outage(error) or clock() >= deadline:
                raise
        sleep(RETRY_SECONDS)


@contextmanager
def blaming_the_disk(directory: Path, what: str) -> Iterator[None]:
    """Turns an error of what is done below a directory into a StorageError, if the disk takes nothing there.

    Raises:
        StorageError: it says what could not be written, where, and why.
    """
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        fault = _fault_among(error) or _fault_of(directory)
        if fault is None:
            raise
        raise StorageError(
            f"{what} cannot be written to {directory}: {fault.strerror or fault}; free some space or choose another "
            "storage"
        ) from error


def _fault_among(error: BaseException | None) -> OSError | None:
    """Returns the disk's own error among those that led to one."""
    while error is not None and not (isinstance(error, OSError) and error.errno in FAULTS):
        error = error.__cause__ or error.__context__
    return error


def _fault_of(directory: Path) -> OSError | None:
    """Returns why nothing can be written to a directory, or to where it would be made; None where it can."""
    there = next(path for path in (directory, *directory.parents) if path.exists())
    probe = there / f".probe-{uuid.uuid4().hex[:8]}"
    try:
        with probe.open("xb") as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return None

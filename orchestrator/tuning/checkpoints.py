"""Checkpoints on a study's storage: written beside, hashed, published last.

A published checkpoint is never changed. What lies under a temporary name after a crash was never referred to. Those on
a disk are here, those in an object store in `uploaded`.
"""

import os
import shutil
import uuid
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from orchestrator.domain.errors import NotAsPublished, StorageError
from orchestrator.domain.trials import CheckpointRef
from orchestrator.tuning.outage import blaming_the_disk


class Checkpoints(Protocol):
    """The checkpoints of one study."""

    def publish(self, trial: int, step: int, write: Callable[[Path], bool]) -> CheckpointRef | None:
        """Returns the reference of what `write` put into an empty directory; None where it says that there is none.

        Raises:
            StorageError: the storage cannot be written, whatever words `write` found for it.
        """

    def begin(self, trial: int, step: int, write: Callable[[Path], bool]) -> CheckpointRef | None:
        """Returns what `publish` does, or None where that takes long: `finished` has the reference later."""

    def finished(self, trial: int) -> CheckpointRef | None:
        """Returns the reference of a checkpoint that was begun and is published by now; each one once."""

    def forget(self, trial: int) -> None:
        """Lets go of what was begun for a trial: it begins anew."""

    def fetch(self, ref: CheckpointRef) -> Path:
        """Returns the local directory of a checkpoint whose content is what was published.

        Raises:
            NotAsPublished: it is gone, or was changed.
            StorageError: the storage cannot be read.
        """


class CheckpointStore:
    """The checkpoints of one study on a disk. Any number of workers write; each trial has one writer at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def publish(self, trial: int, step: int, write: Callable[[Path], bool]) -> CheckpointRef | None:
        """Returns the reference of what `write` put into an empty directory; None where it says that there is none.

        Raises:
            StorageError: the storage cannot be written.
        """
        target = self.directory / f"{trial:05d}" / f"{step:05d}"
        beside = target.parent / f".{step:05d}-{uuid.uuid4().hex[:8]}"
        try:
            with blaming_the_disk(target.parent, f"checkpoint of trial {trial}"):
                if target.is_dir():  # the same step again, after a crash between its publication and its report
                    return CheckpointRef(step, str(target), *digest_of(target))
                beside.mkdir(parents=True)
                if not write(beside):
                    return None
                digest = digest_of(beside, flush=True)
                if not _moved(beside, target):
                    digest = digest_of(target)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return CheckpointRef(step, str(target), *digest)

    def begin(self, trial: int, step: int, write: Callable[[Path], bool]) -> CheckpointRef | None:
        """Returns what `publish` does: a disk takes it at once."""
        return self.publish(trial, step, write)

    def finished(self, trial: int) -> CheckpointRef | None:
        """Returns None: nothing is left for later."""
        return None

    def forget(self, trial: int) -> None:
        """Nothing was left for later."""

    def fetch(self, ref: CheckpointRef) -> Path:
        """Returns the directory of a checkpoint whose content is what was published.

        Raises:
            NotAsPublished: it is gone, or was changed.
            StorageError: the storage cannot be read.
        """
        directory = Path(ref.uri)
        try:
            if not directory.is_dir():
                self.directory.stat()  # without the whole of them the storage is away
                raise NotAsPublished(f"checkpoint {directory} is gone; the trial can only start again from zero")
            if digest_of(directory)[0] != ref.sha256:
                raise NotAsPublished(f"checkpoint {directory} is not what was published: its hash differs")
        except OSError as error:
            raise StorageError(
                f"checkpoint {directory} cannot be read: {error.strerror or error}; look at the storage's disk"
            ) from error
        return directory


def _moved(beside: Path, target: Path) -> bool:
    """Publishes a checkpoint; returns False where a worker whose time was over has just published the same one."""
    try:
        beside.rename(target)
    except OSError:
        if target.is_dir():
            return False
        raise
    _flush(target.parent)  # the new name too must survive a power cut
    return True


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest_of(directory: Path, *, flush: bool = False) -> tuple[str, int]:
    """Returns (sha256 over names and contents, bytes); with `flush` everything is on the disk afterwards."""
    total, size = sha256(), 0
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        content = path.read_bytes()
        size += len(content)
        total.update(f"{path.relative_to(directory).as_posix()}\0{len(content)}\0".encode())
        total.update(content)
        if flush:
            _flush(path)
    return total.hexdigest(), size

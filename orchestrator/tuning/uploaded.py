"""Checkpoints in an object store: written to a local directory, hashed there, uploaded as one object, which takes one
request and is there whole or not at all.

Each one lies under a name of its own, `<trial>/<step>-<random>`: a worker that was given up and its successor may
upload the same step at the same time, and never write into one another's. What nobody refers to is swept.
"""

import shutil
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from orchestrator.domain.errors import NotAsPublished, StorageError
from orchestrator.domain.trials import CheckpointRef
from orchestrator.journal import Published, Storage, cache_directory, scratch
from orchestrator.tuning.checkpoints import digest_of
from orchestrator.tuning.outage import blaming_the_disk

KEPT = 64  # fetched checkpoints on the disk; more than the trials that a worker holds at once (`study.BATCH`)


class UploadedCheckpoints:
    """The checkpoints of one study, as one worker process sees them; see `Checkpoints`. For one thread.

    One upload at a time goes on beside the training.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._uploader: ThreadPoolExecutor | None = None
        self._uploads: dict[int, Future[CheckpointRef]] = {}
        self._fetched: OrderedDict[str, Path] = OrderedDict()
        self._scratch: Path | None = None

    def publish(self, trial: int, step: int, write: Callable[[Path], bool]) -> CheckpointRef | None:
        """Returns the reference once everything is on the storage; see the port."""
        self.forget(trial)
        made = self._written(trial, write)
        return None if made is None else self._upload(made, trial, step)

    def begin(self, trial: int, step: int, write: Callable[[Path], bool]) -> CheckpointRef | None:
        """Returns None, and uploads from a thread; a trial whose last upload still goes on begins no other one."""
        if trial in self._uploads:
            return self.finished(trial)
        made = self._written(trial, write)
        if made is not None:
            self._uploader = self._uploader or ThreadPoolExecutor(1, thread_name_prefix="upload")
            self._uploads[trial] = self._uploader.submit(self._upload, made, trial, step)
        return None

    def finished(self, trial: int) -> CheckpointRef | None:
        """Returns the reference of what `begin` began, once; None where it failed: the next one may go better."""
        upload = self._uploads.get(trial)
        if upload is None or not upload.done():
            return None
        del self._uploads[trial]
        with suppress(StorageError):  # `publish` says what is wrong, when the trial cannot do without
            return upload.result()
        return None

    def forget(self, trial: int) -> None:
        """Waits for an upload that nobody will refer to, so that none ends after the last sweep."""
        upload = self._uploads.pop(trial, None)
        if upload is not None and not upload.cancel():
            upload.exception()

    def fetch(self, ref: CheckpointRef) -> Path:
        """Returns a local copy, compared with what was published; see the port."""
        name = self._storage.name_of(ref.uri)
        if name is None:
            raise StorageError(f"checkpoint {ref.uri} does not lie on {self._storage}, where the study is kept")
        copy = self._fetched.pop(ref.uri, None)
        if copy is None or not copy.is_dir() or digest_of(copy)[0] != ref.sha256:
            copy = self._download(ref, name)
        self._fetched[ref.uri] = copy
        while len(self._fetched) > KEPT:
            shutil.rmtree(self._fetched.popitem(last=False)[1], ignore_errors=True)
        return copy

    def _written(self, trial: int, write: Callable[[Path], bool]) -> Path | None:
        beside: Path | None = None
        try:
            with blaming_the_disk(self._scratch or cache_directory(), f"checkpoint of trial {trial}"):
                beside = self._new_directory()
                beside.mkdir()
                if write(beside):
                    made, beside = beside, None
                    return made
                return None
        finally:
            if beside is not None:
                shutil.rmtree(beside, ignore_errors=True)

    def _upload(self, made: Path, trial: int, step: int) -> CheckpointRef:
        name = f"{trial:05d}/{step:05d}-{uuid.uuid4().hex[:8]}"
        try:
            published = self._storage.send(made, name)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return CheckpointRef(step, self._storage.child(name).uri, published.sha256, published.size_bytes)

    def _download(self, ref: CheckpointRef, name: str) -> Path:
        try:
            copy = self._new_directory()
        except OSError as error:
            raise StorageError(f"checkpoint {ref.uri} cannot be kept on this host: {error}; free some space") from error
        if self._received(ref, name, copy).sha256 != ref.sha256:
            shutil.rmtree(copy, ignore_errors=True)
            raise NotAsPublished(f"checkpoint {ref.uri} is not what was published: its hash differs")
        return copy

    def _received(self, ref: CheckpointRef, name: str, copy: Path) -> Published:
        try:
            return self._storage.receive(name, copy)
        except NotAsPublished:
            if self._storage.published(name) is not None:  # by an earlier version, as a folder
                return self._storage.download(name, copy)
            if self._storage.exists(f"{name}/{Published.PARCEL}"):
                raise
        raise NotAsPublished(f"checkpoint {ref.uri} is gone; the trial can only start again from zero")

    def _new_directory(self) -> Path:
        if self._scratch is None:
            self._scratch = scratch("checkpoints")
            weakref.finalize(self, shutil.rmtree, self._scratch, ignore_errors=True)
        return self._scratch / uuid.uuid4().hex

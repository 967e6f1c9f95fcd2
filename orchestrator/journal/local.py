"""The journal on a local disk: an append file for each epoch, one fsync for each durable batch.

Every opening by a writer begins a new epoch with a file of its own. The successor first makes itself known, then
measures where the file before it ends, cuts that file's torn tail and records the size as a seal. A writer looks
for a successor *after* each write and before it returns: so whatever was acknowledged lies before the seal.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from orchestrator.domain.errors import ExchangeRefused, StorageError
from orchestrator.journal.claim import Claim
from orchestrator.journal.disk import Disk
from orchestrator.journal.files import FORMAT, EpochFile, Log, epoch_files, read_header, resume_batches, whole_size
from orchestrator.journal.port import Event
from orchestrator.journal.records import encode_events, pack
from orchestrator.journal.snapshots import KEPT, Place, encode, places


class LocalJournal:
    """The writer's end of a journal in a directory. One writer: the process that opened it.

    Raises:
        StudyBusy: another process writes it.
        StorageError: the directory cannot be written.
        JournalDamaged, JournalTooNew: the epoch before cannot be gone on from.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._unusable = ""  # why nothing can be appended any more
        self._file = -1
        self._waiting: list[bytes] = []  # what a full disk did not take
        try:
            created = _create(directory)
            self._claim = Claim(directory)
            try:
                self._begin(created)
            except BaseException:
                self._abandon()
                raise
        except OSError as error:
            raise _unwritable(directory, error) from error

    def _begin(self, created: list[Path]) -> None:
        """Opens the new epoch's file behind the one before it."""
        earlier = epoch_files(self._directory)
        self.epoch = earlier[-1].epoch + 1 if earlier else 1
        self.writer = self._claim.writer
        self.path = self._directory / f"{self.epoch:08d}-{self.writer}.log"
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o644)
        self._claim.sign(self.epoch)
        header = {"format": FORMAT, "epoch": self.epoch, "writer": self.writer, "after": _seal_last(earlier)}
        self._earlier_bytes = sum(file.path.stat().st_size for file in earlier)
        self._size = 0
        self._write(pack(orjson.dumps(header)))
        os.fsync(self._file)
        for folder in created:
            _sync_directory(folder)

    def _abandon(self) -> None:
        """Leaves nothing of an epoch that could not begin."""
        self._unusable = "it was closed"
        if self._file >= 0:
            os.close(self._file)
            self.path.unlink(missing_ok=True)
        self._claim.release()

    @property
    def size_bytes(self) -> int:
        """The bytes of all epochs' files, and of the batches that the disk has not taken yet."""
        return self._earlier_bytes + self._size + sum(map(len, self._waiting))

    def append(self, events: Sequence[Event], *, durable: bool = True) -> None:
        """Appends the events as one batch; see the port. One write, and one fsync with `durable`.

        Raises:
            ExchangeRefused: a later writer has taken over; nothing more of this one's counts.
            StorageError: the disk is full or failing.
        """
        if self._unusable:
            raise StorageError(f"{self.path} cannot be appended to: {self._unusable}; open the journal again")
        if events:
            self._waiting.append(pack(encode_events(events)))
        self._write_waiting()
        if durable:
            self._sync()
        self._refuse_if_succeeded()

    def read(self) -> Iterator[list[dict[str, Any]]]:
        """Yields the batches of all epochs, this one's included; see the port."""
        return Log.of(epoch_files(self._directory)).read()

    def resume(self) -> tuple[bytes | None, Iterator[list[dict[str, Any]]]]:
        """Returns the newest snapshot and the batches behind it; see the port."""
        return resume_batches(self._directory)

    def compact(self, state: bytes) -> None:
        """Publishes the state as a snapshot beside the files, which all stay; see the port."""
        self.append([])
        place = Place(self.epoch, self.writer, self._size)
        try:
            Disk(self._directory).write(place.snapshot, lambda: (encode(place, state),), new=False)
            for old in places(path.name for path in self._directory.iterdir())[KEPT:]:
                (self._directory / old.snapshot).unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(self._directory / place.snapshot, error) from error

    def close(self) -> None:
        """Brings everything to the storage and releases the claim; closing twice does nothing."""
        if self._unusable == "it was closed":
            return
        usable, self._unusable = not self._unusable, "it was closed"
        try:
            if usable:
                self._write_waiting()
            os.fsync(self._file)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        finally:
            os.close(self._file)
            self._claim.release()

    def _write_waiting(self) -> None:
        while self._waiting:
            self._write(self._waiting[0])
            del self._waiting[0]

    def _write(self, record: bytes) -> None:
        try:
            written = os.write(self._file, record)
            while written < len(record):  # a disk that fills up takes a part first and then fails
                written += os.write(self._file, record[written:])
        except OSError as error:
            self._take_back()
            raise _unwritable(self.path, error) from error
        self._size += len(record)

    def _take_back(self) -> None:
        """Cuts the half of a record that was written: appending behind it would damage the journal."""
        try:
            os.ftruncate(self._file, self._size)
        except OSError as error:
            self._unusable = f"half a record could not be taken back ({error.strerror})"

    def _sync(self) -> None:
        try:
            os.fsync(self._file)
        except OSError as error:
            # after a failed fsync nobody knows which pages reached the disk, and a second one would not say
            self._unusable = f"an earlier fsync failed ({error.strerror})"
            raise _unwritable(self.path, error) from error

    def _refuse_if_succeeded(self) -> None:
        if self._claim.is_signed_by_us() and (self._claim.is_on_disk() or not self._has_later_epoch()):
            return
        self._unusable = "a later writer has taken over"
        raise ExchangeRefused(
            f"epoch {self.epoch} of the journal in {self._directory} is over: a later writer has taken over; "
            "end this process, the study goes on in the other"
        )

    def _has_later_epoch(self) -> bool:
        return any(file.epoch > self.epoch for file in epoch_files(self._directory))


def _seal_last(earlier: list[EpochFile]) -> dict[str, Any] | None:
    """Cuts the torn tail of the last file that holds anything, and returns the seal for it."""
    for file in reversed(earlier):
        if read_header(file.path) is None:
            whole_size(file.path)  # raises where more than a header was lost
            continue
        size = whole_size(file.path)
        handle = os.open(file.path, os.O_WRONLY)
        try:
            os.ftruncate(handle, size)
            os.fsync(
                handle
            )  # what the former writer had not brought to the storage is read, and built upon, from now on
        finally:
            os.close(handle)
        return {"file": file.path.name, "bytes": size}
    return None


def _create(directory: Path) -> list[Path]:
    """Makes the directory and returns the folders that have to be synced for it to survive a power cut."""
    missing = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    return [directory, *(folder.parent for folder in missing)]


def _sync_directory(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _unwritable(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"{path} cannot be written: {error.strerror or error}; check that it exists, that you may write there and that "
        "the disk has room, or give another storage"
    )

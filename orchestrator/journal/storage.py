"""A place for a study's files: a directory on a disk, or a prefix in an object store.

`Storage` is what everybody holds: it names files, repeats what failed for a passing reason, and turns what went wrong
into one clear error. `disk` and `object_store` do the work; `publishing` is the form of whole directories.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from orchestrator.domain.errors import StorageError
from orchestrator.journal.contents import Files, Source
from orchestrator.journal.disk import Disk
from orchestrator.journal.object_store import Connection, ObjectStore, check_s3, explain, is_transient
from orchestrator.journal.publishing import Published, download, published, receive, send, upload

T = TypeVar("T")

PATIENCE_SECONDS = 30.0  # S3 asks for seconds, not minutes, when it says SlowDown
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
READERS = (
    16  # requests at once when many objects are read or deleted; an S3 GET takes tens of milliseconds, mostly waiting
)


@dataclass(frozen=True, slots=True)
class Storage:
    """Files under one address. A value: may be pickled, compared, and used by any number of threads and processes.

    >>> runs = Storage.of("/tmp/runs")
    >>> runs.child("digits").uri, runs.is_local
    ('/tmp/runs/digits', True)
    """

    uri: str
    patience_seconds: float = field(default=PATIENCE_SECONDS, compare=False)
    clock: Callable[[], float] = field(default=time.monotonic, compare=False, repr=False)
    sleep: Callable[[float], None] = field(default=time.sleep, compare=False, repr=False)
    _files: Files = field(kw_only=True, compare=False, repr=False)

    def __str__(self) -> str:
        return self.uri

    def __reduce__(self) -> tuple[object, ...]:
        return _restored, (self.uri, self.patience_seconds, self.clock, self.sleep)

    @staticmethod
    def of(
        place: "AnyStorage",
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> "Storage":
        """Returns the storage at a path or an address; a disk's is made absolute. Nothing is asked of it yet.

        One that is given as a storage is returned as it is.

        Raises:
            StorageError: the address cannot be understood.
        """
        if isinstance(place, Storage):
            return place
        return _restored(_normal(str(place)), patience_seconds, clock, sleep)

    @property
    def is_local(self) -> bool:
        """Whether it is a directory on this host (or one that looks like it)."""
        return is_path(self.uri)

    @property
    def local_path(self) -> Path:
        """The directory.

        Raises:
            StorageError: it is no directory.
        """
        if not self.is_local:
            raise StorageError(f"{self.uri} is no directory on a disk; download what you need from it")
        return Path(self.uri)

    def child(self, name: str) -> "Storage":
        """Returns the storage of the folder `name` in this one."""
        address, question, options = (self.uri, "", "") if self.is_local else self.uri.partition("?")
        below = f"{address.rstrip('/')}/{_checked(name)}"
        return replace(self, uri=f"{below}{question}{options}", _files=self._files.below(name))

    def name_of(self, address: str) -> str | None:
        """Returns the name in this storage of what lies at an address; None where that is elsewhere."""
        given = address if is_path(address) else _normal(address).partition("?")[0]
        own = self.uri if self.is_local else self.uri.partition("?")[0]
        return given.removeprefix(f"{own.rstrip('/')}/") if given.startswith(f"{own.rstrip('/')}/") else None

    def patient(self, seconds: float) -> "Storage":
        """Returns the same storage for somebody who can wait for a shorter or a longer time."""
        return replace(self, patience_seconds=seconds)

    def read(self, name: str) -> bytes:
        """Returns a file's content.

        Raises:
            StorageError: it is missing, or cannot be read.
        """
        return self._do("read", name, partial(self._files.read, _checked(name)))

    def find(self, name: str) -> bytes | None:
        """Returns a file's content, or None where there is none."""
        return self._do("read", name, partial(_unless_missing, partial(self._files.read, _checked(name))))

    def read_many(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yields the contents in the order of their names, several requests at once."""
        if self.is_local or len(names) < 2:
            yield from map(self.read, names)
            return
        with ThreadPoolExecutor(min(READERS, len(names))) as pool:
            for some in _groups(names):
                yield from pool.map(self.read, some)

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yields a file's content piece by piece; after a passing failure it goes on where that happened."""
        attempts, given = _Attempts(self, "read", _checked(name)), 0
        while True:
            try:
                for chunk in self._files.chunks(name, given):
                    given += len(chunk)
                    yield chunk
                return
            except OSError as error:
                attempts.wait_after(error)

    def write(self, name: str, data: bytes) -> None:
        """Makes a file, or replaces it; it appears whole or not at all, and is on the storage on return.

        Raises:
            StorageError: the storage refused; or it did not answer in time, and then the file may still appear.
        """
        self.write_from(name, lambda: (data,))

    def write_from(self, name: str, source: Source) -> None:
        """The same from pieces; `source` is called anew for each attempt."""
        self._do("written", name, partial(self._files.write, _checked(name), source, new=False))

    def write_new(self, name: str, data: bytes) -> None:
        """Makes a file that must not exist. An object store looks first: two at one moment may both succeed.

        Raises:
            StorageError: there is one, or the storage refused.
        """
        self._do("written", name, partial(self._files.write, _checked(name), lambda: (data,), new=True))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Returns the bytes of every file whose name begins with `prefix`, in the order of their names."""
        folder = prefix.rpartition("/")[0]
        found = self._do("listed", prefix, partial(self._files.sizes, folder))
        return {name: found[name] for name in sorted(found) if name.startswith(prefix)}

    def names(self, prefix: str = "") -> list[str]:
        """Returns the names of all files that begin with `prefix`, sorted; folders are part of the names."""
        return list(self.sizes(prefix))

    def folders(self, name: str = "") -> list[str]:
        """Returns the names of the folders directly in this one, or in the one named."""
        return sorted(self._do("listed", name, partial(self._files.folders, name)))

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name, or a folder that holds any."""
        return self._do("read", name, partial(self._files.exists, _checked(name)))

    def delete(self, name: str) -> None:
        """Removes a file; a missing one is no error."""
        self._do("deleted", name, partial(self._files.delete, _checked(name)))

    def delete_many(self, names: Sequence[str]) -> None:
        """Removes files, several requests at once; missing ones are no error."""
        if self.is_local or len(names) < 2:
            for name in names:
                self.delete(name)
            return
        with ThreadPoolExecutor(min(READERS, len(names))) as pool:
            list(pool.map(self.delete, names))

    def delete_tree(self, name: str) -> None:
        """Removes a folder with everything in it, what makes it a published one first."""
        self.delete(f"{name}/{Published.MANIFEST}")
        self._do("deleted", name, partial(self._files.delete_tree, _checked(name)))

    def upload(self, directory: Path, name: str, *, is_new: bool = False) -> Published:
        """Publishes every file of a directory as the folder `name`: a manifest with their hashes comes last.

        What is published is never changed: a folder that is there already is left as it is, and what it holds is
        returned. With `is_new` nobody looks for it, which saves a request: for names that nobody else can have used.

        Raises:
            StorageError: the directory cannot be read or the storage refused.
        """
        return upload(self, directory, name, is_new=is_new)

    def published(self, name: str) -> Published | None:
        """Returns what was published as the folder `name`, or None where its manifest is not there."""
        return published(self, name)

    def download(self, name: str, directory: Path) -> Published:
        """Brings a published folder into a new directory, which appears whole or not at all.

        Raises:
            NotAsPublished: it was not published, or a file is missing or differs from what was.
            StorageError: the storage cannot be read, or the directory cannot be written.
        """
        return download(self, name, directory)

    def send(self, directory: Path, name: str) -> Published:
        """Publishes a directory as a parcel, in one file of the folder `name`, and so in one request.

        The name has to be one that nobody else can have used.

        Raises:
            StorageError: the directory cannot be read or the storage refused.
        """
        return send(self, directory, name)

    def receive(self, name: str, directory: Path) -> Published:
        """Brings a parcel into a new directory, which appears whole or not at all; raises as `download` does."""
        return receive(self, name, directory)

    def _do(self, done: str, name: str, action: Callable[[], T]) -> T:
        attempts = _Attempts(self, done, name)
        while True:
            try:
                return action()
            except OSError as error:
                attempts.wait_after(error)


AnyStorage = str | Path | Storage
"""A storage as it may be given: a directory, an address, or the storage itself."""


class _Attempts:
    """The attempts at one thing: pauses that double, until the storage's patience is at its end."""

    def __init__(self, storage: Storage, done: str, name: str) -> None:
        self._storage, self._done = storage, done
        self._place = f"{storage.uri.partition('?')[0]}/{name}".rstrip("/")
        self._deadline = storage.clock() + storage.patience_seconds
        self._pause = FIRST_PAUSE_SECONDS

    def wait_after(self, error: OSError) -> None:
        """Sleeps before the next attempt, or raises StorageError where there is to be none."""
        if not is_transient(error) or self._storage.clock() + self._pause > self._deadline:
            reason, remedy = explain(error)
            raise StorageError(f"{self._place} cannot be {self._done}: {reason}; {remedy}") from error
        self._storage.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_SECONDS)


def _restored(uri: str, patience: float, clock: Callable[[], float], sleep: Callable[[float], None]) -> Storage:
    files = Disk(Path(uri)) if is_path(uri) else ObjectStore(Connection(uri))
    return Storage(uri, patience, clock, sleep, _files=files)


def is_path(uri: str) -> bool:
    """Returns whether an address is a path on this host."""
    return "://" not in uri


def _normal(place: str) -> str:
    scheme, colon, rest = place.partition("://")
    if not colon:
        return os.path.abspath(os.path.expanduser(place))
    if scheme == "file":
        return os.path.abspath(unquote(urlsplit(place).path))
    if not rest:
        raise StorageError(
            f"storage {place!r} names no place; give a directory or an address such as s3://BUCKET/PREFIX"
        )
    if scheme == "s3":
        check_s3(place)
    address, question, options = place.partition("?")
    return f"{address.rstrip('/')}{question}{options}"


def _groups(names: Sequence[str]) -> Iterable[Sequence[str]]:
    """Returns the names in groups that are read at once and held in memory together."""
    return (names[start : start + 4 * READERS] for start in range(0, len(names), 4 * READERS))


def _checked(name: str) -> str:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "?" in name:
        raise StorageError(f"{name!r} cannot name a file on a storage; give a path below it, such as 'a/b.json'")
    return name


def _unless_missing(action: Callable[[], bytes]) -> bytes | None:
    try:
        return action()
    except FileNotFoundError:
        return None

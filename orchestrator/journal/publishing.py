"""Whole directories on a storage: their files, and a manifest with the hash of each, which is written last.

Without its manifest a folder was never published. A *parcel* is the same in one file, which takes one request: manifest
first, then the files, one behind the other. `Published.sha256` is over names and contents, and equal for equal
directories wherever they lie.
"""

import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import ClassVar, Protocol

import orjson

from orchestrator.domain.errors import NotAsPublished, StorageError
from orchestrator.journal.contents import Source
from orchestrator.journal.disk import CHUNK_BYTES, sync_folder

FORMAT = 1
_LENGTH = 8  # bytes before the manifest, that say how long it is
_MOST_MANIFEST_BYTES = 64 * 1024 * 1024


class Place(Protocol):
    """What publishing needs of a storage."""

    @property
    def uri(self) -> str:
        """Its address."""

    def find(self, name: str) -> bytes | None:
        """Returns a file's content, or None where there is none."""

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yields a file's content piece by piece."""

    def write(self, name: str, data: bytes) -> None:
        """Makes a file whole or not at all."""

    def write_from(self, name: str, source: Source) -> None:
        """The same from pieces."""


@dataclass(frozen=True, slots=True)
class FileHash:
    """What one file must be."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Published:
    """What a manifest says: the hash and the bytes of the whole, and of each file by its name."""

    MANIFEST: ClassVar[str] = "_published.json"
    PARCEL: ClassVar[str] = "_published.parcel"

    sha256: str
    size_bytes: int
    files: Mapping[str, FileHash]

    @classmethod
    def of(cls, directory: Path) -> "Published":
        """Returns what a directory holds; reads every file once.

        Raises:
            StorageError: it has a file of the manifest's name.
        """
        total, files = sha256(), {}
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            name = path.relative_to(directory).as_posix()
            if name in (cls.MANIFEST, cls.PARCEL):
                raise StorageError(f"{path} has the name of a published folder's manifest; rename it")
            size = path.stat().st_size
            total.update(f"{name}\0{size}\0".encode())
            own = sha256()
            for chunk in _chunks(path):
                total.update(chunk)
                own.update(chunk)
            files[name] = FileHash(own.hexdigest(), size)
        return cls(total.hexdigest(), sum(file.size_bytes for file in files.values()), files)

    def to_bytes(self) -> bytes:
        """Returns the manifest."""
        files = {name: {"sha256": file.sha256, "size_bytes": file.size_bytes} for name, file in self.files.items()}
        return orjson.dumps(
            {"format": FORMAT, "sha256": self.sha256, "size_bytes": self.size_bytes, "files": files},
            option=orjson.OPT_INDENT_2,
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "Published":
        """Returns what `to_bytes` wrote.

        Raises:
            NotAsPublished: it is no manifest, or one of a newer form.
        """
        try:
            given = orjson.loads(data)
            newer = given["format"] > FORMAT
            files = {name: FileHash(file["sha256"], file["size_bytes"]) for name, file in given["files"].items()}
            manifest = cls(given["sha256"], given["size_bytes"], files)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise NotAsPublished(
                f"{where} is no manifest of a published folder ({error!r}); publish it again"
            ) from error
        if newer or any(".." in PurePosixPath(name).parts or name.startswith("/") for name in files):
            raise NotAsPublished(f"{where} cannot be used: it is of a newer version of this program, or was edited")
        return manifest


def upload(storage: Place, directory: Path, name: str, *, is_new: bool = False) -> Published:
    """Publishes a directory as a folder; see `Storage.upload`."""
    there = None if is_new else published(storage, name)
    if there is not None:
        return there
    manifest = _read(directory)
    for file in manifest.files:
        storage.write_from(f"{name}/{file}", partial(_chunks, directory / file))
    storage.write(f"{name}/{Published.MANIFEST}", manifest.to_bytes())
    return manifest


def send(storage: Place, directory: Path, name: str) -> Published:
    """Publishes a directory as a parcel; see `Storage.send`."""
    manifest = _read(directory)
    storage.write_from(f"{name}/{Published.PARCEL}", partial(_parcel, directory, manifest))
    return manifest


def _read(directory: Path) -> Published:
    try:
        return Published.of(directory)
    except OSError as error:
        raise StorageError(f"{directory} cannot be read: {error.strerror or error}; nothing was published") from error


def _parcel(directory: Path, manifest: Published) -> Iterator[bytes]:
    said = manifest.to_bytes()
    yield len(said).to_bytes(_LENGTH, "big") + said
    for file in manifest.files:
        yield from _chunks(directory / file)


def published(storage: Place, name: str) -> Published | None:
    """Returns what a folder's manifest says; see `Storage.published`."""
    data = storage.find(f"{name}/{Published.MANIFEST}")
    return None if data is None else Published.from_bytes(data, f"{storage.uri}/{name}/{Published.MANIFEST}")


def download(storage: Place, name: str, directory: Path) -> Published:
    """Brings a published folder into a new directory; see `Storage.download`."""
    manifest = published(storage, name)
    if manifest is None:
        raise NotAsPublished(f"{storage.uri}/{name} was not published, or is gone: it has no {Published.MANIFEST}")
    _bring(storage, name, directory, lambda beside: _fetch(storage, name, manifest, beside))
    return manifest


def receive(storage: Place, name: str, directory: Path) -> Published:
    """Brings a parcel into a new directory; see `Storage.receive`."""
    found: list[Published] = []
    _bring(storage, name, directory, lambda beside: found.append(_unpack(storage, name, beside)))
    return found[0]


def _bring(storage: Place, name: str, directory: Path, fetch: Callable[[Path], None]) -> None:
    """Has a directory filled beside its place, and moves it there when it is whole."""
    beside = directory.with_name(f".{directory.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        beside.mkdir(parents=True)
        fetch(beside)
        beside.rename(directory)
        sync_folder(directory.parent)
    except OSError as error:
        raise StorageError(
            f"{storage.uri}/{name} cannot be brought to {directory}: {error.strerror or error}; give a new directory, "
            "or free some space"
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _fetch(storage: Place, name: str, manifest: Published, directory: Path) -> None:
    _copy(f"{storage.uri}/{name}", manifest, directory, lambda file: _there(storage, f"{name}/{file}"))


def _unpack(storage: Place, name: str, directory: Path) -> Published:
    """Copies what a parcel holds, as `_fetch` does."""
    where = f"{storage.uri}/{name}/{Published.PARCEL}"
    reader = _Reader(_there(storage, f"{name}/{Published.PARCEL}"), where)
    length = int.from_bytes(b"".join(reader.take(_LENGTH)), "big")
    if length > _MOST_MANIFEST_BYTES:
        raise NotAsPublished(f"{where} is no parcel: its manifest would have {length} bytes")
    manifest = Published.from_bytes(b"".join(reader.take(length)), where)
    _copy(f"{storage.uri}/{name}", manifest, directory, lambda file: reader.take(manifest.files[file].size_bytes))
    reader.end()
    return manifest


class _Reader:
    """Takes a stream of pieces apart by lengths."""

    def __init__(self, pieces: Iterator[bytes], where: str) -> None:
        self._pieces, self._where, self._rest = pieces, where, b""

    def take(self, size: int) -> Iterator[bytes]:
        """Yields the next `size` bytes.

        Raises:
            NotAsPublished: there are not so many.
        """
        while size > 0:
            piece = self._rest or next(self._pieces, b"")
            if not piece:
                raise NotAsPublished(f"{self._where} is not what was published: its end is missing")
            taken, self._rest = piece[:size], piece[size:]
            size -= len(taken)
            yield taken

    def end(self) -> None:
        """Raises NotAsPublished where something is left."""
        if self._rest or next(self._pieces, b""):
            raise NotAsPublished(f"{self._where} is not what was published: there is something behind its end")


def _copy(where: str, manifest: Published, directory: Path, pieces: Callable[[str], Iterator[bytes]]) -> None:
    """Copies every file and compares it with the manifest, and the manifest with its own hash."""
    total = sha256()
    for file, hashed in sorted(manifest.files.items(), key=lambda entry: Path(entry[0])):
        target = directory / file
        target.parent.mkdir(parents=True, exist_ok=True)
        total.update(f"{file}\0{hashed.size_bytes}\0".encode())
        own = sha256()
        with target.open("xb") as copy:
            for chunk in pieces(file):
                copy.write(chunk)
                own.update(chunk)
                total.update(chunk)
        if own.hexdigest() != hashed.sha256:
            raise NotAsPublished(f"{where}/{file} is not what was published: its hash differs")
    if total.hexdigest() != manifest.sha256:
        raise NotAsPublished(f"{where}/{Published.MANIFEST} was edited: its hash differs")


def _there(storage: Place, name: str) -> Iterator[bytes]:
    """Yields the content of a file that a manifest names: without it the folder is not what it was."""
    try:
        yield from storage.chunks(name)
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise NotAsPublished(str(error)) from error
        raise


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk

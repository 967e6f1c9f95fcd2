"""An object store behind the storage, by way of `pyarrow.fs`.

An S3 file system is made by hand and not by pyarrow's own reading of the address, for three reasons: a small object
has to be one PUT (`allow_delayed_open`; otherwise a multipart upload, three requests); a server that hangs has to be
noticed; and attempts are repeated in one place only, the storage's, which knows how long its caller can wait.
"""

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

from orchestrator.domain.errors import StorageError
from orchestrator.journal.contents import Source

CHUNK_BYTES = 8 << 20
CONNECT_SECONDS = 3.0
SILENT_SECONDS = 10.0  # an attempt in which not a byte moves for so long has failed
OPTIONS = ("endpoint_override", "region", "scheme")  # what an S3 address may say behind its `?`
AWS_ERROR = re.compile(r"AWS Error ([A-Z_]+)(?: \(HTTP status (\d+)\))? during (\w+) operation: (.*)", re.DOTALL)
TRANSIENT = {
    "INTERNAL_FAILURE",
    "NETWORK_CONNECTION",
    "REQUEST_EXPIRED",
    "REQUEST_TIMEOUT",
    "SERVICE_UNAVAILABLE",
    "SLOW_DOWN",
    "THROTTLING",
}
TRANSIENT_STATUS = {"429", "500", "502", "503", "504"}
REMEDIES = {
    "NO_SUCH_BUCKET": "create the bucket, or correct the address",
    "ACCESS_DENIED": "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, on every host, and what that key may do",
    "INVALID_ACCESS_KEY_ID": "check AWS_ACCESS_KEY_ID, on every host",
    "SIGNATURE_DOES_NOT_MATCH": "check AWS_SECRET_ACCESS_KEY, on every host",
    "REQUEST_TIME_TOO_SKEWED": "set this host's clock: the store refuses requests from another time",
    "NETWORK_CONNECTION": "check the endpoint (AWS_ENDPOINT_URL or ?endpoint_override=) and the network",
}


class Connection:
    """The file system of one address, made at the first request; folders below share it."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._opened: tuple[Any, str] | None = None

    def open(self) -> tuple[Any, str]:
        """Returns (the file system, the path of the address in it)."""
        if self._opened is None:
            self._opened = _open_s3(self._uri) if self._uri.startswith("s3:") else _open_other(self._uri)
        return self._opened


class ObjectStore:
    """The objects under one prefix."""

    def __init__(self, connection: Connection, folder: str = "") -> None:
        self._connection = connection
        self._folder = folder

    def below(self, name: str) -> "ObjectStore":
        """Returns the objects of a folder."""
        return ObjectStore(self._connection, f"{self._folder}/{name}")

    def _at(self, name: str) -> tuple[Any, str]:
        file_system, prefix = self._connection.open()
        return file_system, f"{prefix}{self._folder}/{name}".strip("/")

    def read(self, name: str) -> bytes:
        """Returns the content: on S3 a HEAD and a GET."""
        return b"".join(self.chunks(name, 0))

    def chunks(self, name: str, start: int) -> Iterator[bytes]:
        """Yields the content from a byte on, piece by piece."""
        file_system, path = self._at(name)
        with file_system.open_input_file(path) as file:
            file.seek(start)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def write(self, name: str, source: Source, *, new: bool) -> None:
        """Puts one object; `new` looks first, which leaves a gap that only the writers' own names can close."""
        if new and self.exists(name):
            raise FileExistsError(17, "it exists already")
        file_system, path = self._at(name)
        try:
            _put(file_system, path, source)
        except FileNotFoundError:  # a file system with real folders
            file_system.create_dir(path.rpartition("/")[0], recursive=True)
            _put(file_system, path, source)

    def sizes(self, folder: str) -> dict[str, int]:
        """Returns the size in bytes of every object below a folder: one LIST for each thousand."""
        from pyarrow.fs import FileType  # pyarrow takes 0.2 s, and a disk does without it

        return {self._name(info.path): info.size for info in self._list(folder, True) if info.type == FileType.File}

    def folders(self, folder: str) -> list[str]:
        """Returns the names of the folders directly below a folder."""
        from pyarrow.fs import FileType

        return [info.base_name for info in self._list(folder, False) if info.type == FileType.Directory]

    def _list(self, folder: str, recursive: bool) -> list[Any]:
        from pyarrow.fs import FileSelector

        file_system, path = self._at(folder)
        try:
            # a missing folder is nothing, but a missing bucket has to be an error: `allow_not_found` hides both
            return list(file_system.get_file_info(FileSelector(path, recursive=recursive)))
        except FileNotFoundError:
            return []

    def _name(self, path: str) -> str:
        return path[len(self._at("")[1]) :].lstrip("/")

    def exists(self, name: str) -> bool:
        """Whether there is an object of that name, or a folder that holds anything."""
        from pyarrow.fs import FileType

        file_system, path = self._at(name)
        kind = file_system.get_file_info(path).type
        return bool(kind == FileType.File) or (kind == FileType.Directory and bool(self.sizes(name)))

    def delete(self, name: str) -> None:
        """Removes one object; a missing one is no error."""
        file_system, path = self._at(name)
        try:
            file_system.delete_file(path)
        except FileNotFoundError:
            return

    def delete_tree(self, name: str) -> None:
        """Removes a folder with all that is in it; a missing one is no error."""
        file_system, path = self._at(name)
        try:
            file_system.delete_dir(path)
        except FileNotFoundError:
            return


def _put(file_system: Any, path: str, source: Source) -> None:
    with file_system.open_output_stream(path) as file:
        for chunk in source():
            file.write(chunk)


def _open_s3(uri: str) -> tuple[Any, str]:
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    parts = urlsplit(uri)
    given = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    endpoint = given.get("endpoint_override") or os.environ.get("AWS_ENDPOINT_URL_S3", "")
    endpoint = endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
    scheme, _, host = endpoint.rpartition("://")
    file_system = S3FileSystem(
        endpoint_override=host or None,
        scheme=given.get("scheme") or scheme or "https",
        region=given.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
        connect_timeout=CONNECT_SECONDS,
        request_timeout=SILENT_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=1),
        allow_delayed_open=True,
    )
    return file_system, f"{parts.netloc}{parts.path}".rstrip("/")


def _open_other(uri: str) -> tuple[Any, str]:
    from pyarrow.fs import FileSystem

    try:
        file_system, path = FileSystem.from_uri(uri)
    except (ValueError, NotImplementedError) as error:  # pyarrow does not know the scheme, or was built without it
        raise StorageError(
            f"storage {uri!r} cannot be used: {str(error).partition(': ')[0]}; give a directory, or an address that "
            "pyarrow.fs knows, such as s3://BUCKET/PREFIX"
        ) from error
    return file_system, path.strip("/")


def check_s3(uri: str) -> None:
    """Refuses an S3 address that cannot be meant.

    Raises:
        StorageError: no bucket, keys inside the address, an unknown option.
    """
    parts = urlsplit(uri)
    if "@" in parts.netloc:
        raise StorageError(
            f"storage s3://…@{parts.netloc.rpartition('@')[2]}{parts.path} holds a key; give keys by "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile: an address is logged and shown"
        )
    if not parts.netloc:
        raise StorageError(f"storage {uri!r} names no bucket; give s3://BUCKET/PREFIX")
    unknown = sorted(set(parse_qs(parts.query)) - set(OPTIONS))
    if unknown:
        raise StorageError(f"storage {uri!r}: unknown option {', '.join(unknown)}; allowed: {', '.join(OPTIONS)}")


def is_transient(error: OSError) -> bool:
    """Returns whether the same request may succeed a little later."""
    match = AWS_ERROR.search(str(error))
    return match is not None and (match[1] in TRANSIENT or match[2] in TRANSIENT_STATUS)


def explain(error: OSError) -> tuple[str, str]:
    """Returns (the reason in one line, what to do) for an error of pyarrow's or the operating system's."""
    match = AWS_ERROR.search(str(error))
    if match is None:
        reason = error.strerror or str(error).partition("\n")[0]
        return reason, "check the path, its permissions and that there is room, or give another storage"
    code, status, operation, text = match.groups()
    said = re.sub(r"\s*\(Request ID:.*", "", text, flags=re.DOTALL).partition("\n")[0].strip()
    if status in {"401", "403"} and code not in REMEDIES:
        code = "ACCESS_DENIED"
    told = f"{code}{f' (HTTP {status})' if status else ''} in {operation}: {said}"
    return told, REMEDIES.get(code, "look at the store's own state, or give another storage")

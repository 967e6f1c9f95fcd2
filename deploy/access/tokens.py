"""The endpoint's own bearer token, `owner`: made at its first start, readable by its owner only, opens everything.

On a disk it is one file. In an object store it lies beside the endpoint's journal, for whoever may read the bucket, and
each host that needs it has a copy.
"""

import secrets
from contextlib import suppress
from pathlib import Path

from deploy.access.private_files import write_private
from deploy.places import endpoint_place
from orchestrator.domain.errors import EndpointError, StorageError
from orchestrator.journal import AnyStorage, Storage, local_state

TOKEN_BYTES = 32
TOKEN = "token"


def token_file(storage: AnyStorage, name: str) -> Path:
    """Returns the path of the endpoint's token on this host."""
    place = endpoint_place(storage, name)
    return (place.local_path if place.is_local else local_state(storage) / "endpoints" / name) / TOKEN


def ensure_token(storage: AnyStorage, name: str) -> Path:
    """Returns the path of the endpoint's token; makes one when there is none.

    The file appears with its content or not at all: it is written beside and linked into place, and of two processes
    that start the endpoint at once one wins and both use its token. In an object store both may write: the later one's
    counts, and a copy is replaced by it whenever this is called.

    Raises:
        EndpointError, StorageError: when the storage cannot be written.
    """
    path, place = token_file(storage, name), endpoint_place(storage, name)
    if not place.is_local:
        return _copied(place, path)
    if path.exists():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):  # the other process won
            write_private(path, _line(secrets.token_urlsafe(TOKEN_BYTES)), is_new=True)
    except OSError as error:
        raise EndpointError(
            f"The token cannot be written to {path} ({error.strerror}). Give another storage."
        ) from error
    return path


def _copied(place: Storage, path: Path) -> Path:
    """Returns the copy of an object store's token, made where there is none."""
    given = place.find(TOKEN)
    if given is None:
        with suppress(StorageError):  # another process may be faster
            place.write_new(TOKEN, _line(secrets.token_urlsafe(TOKEN_BYTES)))
        given = place.read(TOKEN)
    data = _line(given.decode().strip())
    try:
        if not path.exists() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_private(path, data)
    except OSError as error:
        raise EndpointError(f"The token's copy cannot be written to {path} ({error.strerror}).") from error
    return path


def token_of(storage: AnyStorage, name: str) -> str:
    """Returns the token of an endpoint that was started before.

    Raises:
        EndpointError: there is none.
        StorageError: the object store cannot be asked.
    """
    place = endpoint_place(storage, name)
    if not place.is_local and place.find(TOKEN) is not None:
        return read_token(ensure_token(storage, name))
    return read_token(token_file(storage, name))


def read_token(path: Path) -> str:
    """Returns the token in the file.

    Raises:
        EndpointError: when there is none.
    """
    try:
        token = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EndpointError(f"The token {path} cannot be read ({error}). Start the endpoint, it makes one.") from error
    if not token:
        raise EndpointError(f"The token {path} is empty. Delete it and start the endpoint again.")
    return token


def replace_token(storage: AnyStorage, name: str, token: str) -> None:
    """Puts another token where the endpoint's own is kept, and into this host's copy.

    Raises:
        EndpointError, StorageError: the storage cannot be written.
    """
    place = endpoint_place(storage, name)
    try:
        if place.is_local:
            write_private(token_file(storage, name), _line(token))
        else:
            place.write(TOKEN, _line(token))
            ensure_token(storage, name)
    except OSError as error:
        raise EndpointError(f"The token cannot be written to {place} ({error.strerror}).") from error


def _line(token: str) -> bytes:
    return f"{token}\n".encode()

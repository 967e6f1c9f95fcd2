"""The endpoint's bearer token: made at its first start, readable by its owner only."""

import os
import secrets
from pathlib import Path

from deploy.places import endpoint_directory
from orchestrator.domain.errors import EndpointError

TOKEN_BYTES = 32
OWNER_ONLY = 0o600


def token_file(storage: Path | str, name: str) -> Path:
    """Returns the path of the endpoint's token."""
    return endpoint_directory(storage, name) / "token"


def ensure_token(storage: Path | str, name: str) -> Path:
    """Returns the path of the endpoint's token; makes one when there is none.

    The file appears with its content or not at all: it is written beside and linked into place, and of two processes
    that start the endpoint at once one wins and both use its token.

    Raises:
        EndpointError: when the storage cannot be written.
    """
    path = token_file(storage, name)
    if path.exists():
        return path
    beside = path.with_name(f".token.{secrets.token_hex(6)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(beside, secrets.token_urlsafe(TOKEN_BYTES))
        try:
            os.link(beside, path)
        except FileExistsError:
            pass  # the other process won
        finally:
            beside.unlink()
    except OSError as error:
        raise EndpointError(
            f"The token cannot be written to {path} ({error.strerror}). Give another storage."
        ) from error
    return path


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


def _write(path: Path, token: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "w") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(descriptor)

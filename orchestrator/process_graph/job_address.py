"""Where a cluster's job server is, and the token that opens it. Loads no Ray."""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.domain.errors import ClusterError

CONNECT_SECONDS = 5.0
TOKEN_VARIABLE, TOKEN_PATH_VARIABLE = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
TOKEN_PATH = Path("~/.ray/auth_token")


def is_job_server(address: str | None) -> bool:
    """Returns whether the address is that of a job server, rather than of Ray itself."""
    return address is not None and address.startswith(("http://", "https://"))


def cluster_token(file: Path | None) -> str | None:
    """Returns the token that opens a cluster, from the file or from where Ray keeps it; None where there is none.

    Raises:
        ClusterError: the file that was named cannot be read.
    """
    if file is None:
        if os.environ.get(TOKEN_VARIABLE):
            return os.environ[TOKEN_VARIABLE].strip()
        file = Path(os.environ.get(TOKEN_PATH_VARIABLE, TOKEN_PATH)).expanduser()
        if not file.is_file():
            return None
    try:
        return file.read_text().strip() or None
    except (OSError, UnicodeDecodeError) as error:
        raise ClusterError(f"the token file {file} cannot be read ({error})") from error


def require_answer(address: str) -> None:
    """Raises at once where nobody listens.

    Raises:
        ClusterError: with what to look at.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ClusterError(f"the address of a job server is http://HOST:8265; given {address!r}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname, port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        raise ClusterError(
            f"no job server answers at {address} ({error.strerror or error}); is the cluster up, and is it reached "
            "from here? Ray's job server listens on port 8265 of the head, at --dashboard-host"
        ) from error

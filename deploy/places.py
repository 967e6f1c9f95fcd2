"""Where an endpoint keeps its things, and what its name may be."""

import re
from pathlib import Path

from orchestrator.domain.errors import EndpointError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def endpoint_directory(storage: Path | str, name: str) -> Path:
    """Returns `<storage>/endpoints/<name>`, absolute.

    Raises:
        EndpointError: when the name could not be a directory and a part of a URL.
    """
    if not _NAME.fullmatch(name):
        raise EndpointError(
            f"The endpoint's name {name!r} cannot be used: take letters, digits, '_', '-' and '.', at most 100, "
            "a letter or digit first."
        )
    return Path(storage).absolute() / "endpoints" / name


def journal_directory(storage: Path | str, name: str) -> Path:
    """Returns the directory of the endpoint's own journal."""
    return endpoint_directory(storage, name) / "journal"


def known_endpoints(storage: Path | str) -> list[str]:
    """Returns the names of the endpoints on a storage, running or not."""
    directory = endpoint_directory(storage, "x").parent
    return sorted(path.name for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []

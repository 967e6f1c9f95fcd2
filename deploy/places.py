"""Where an endpoint keeps its things, and what its name may be."""

import re

from orchestrator.domain.errors import EndpointError
from orchestrator.journal import AnyStorage, Storage

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def endpoint_place(storage: AnyStorage, name: str) -> Storage:
    """Returns `<storage>/endpoints/<name>`.

    Raises:
        EndpointError: when the name could not be a directory and a part of a URL.
    """
    if not _NAME.fullmatch(name):
        raise EndpointError(
            f"The endpoint's name {name!r} cannot be used: take letters, digits, '_', '-' and '.', at most 100, "
            "a letter or digit first."
        )
    return Storage.of(storage).child("endpoints").child(name)


def journal_directory(storage: AnyStorage, name: str) -> Storage:
    """Returns the place of the endpoint's own journal."""
    return endpoint_place(storage, name).child("journal")


def known_endpoints(storage: AnyStorage) -> list[str]:
    """Returns the names of the endpoints on a storage, running or not."""
    return Storage.of(storage).folders("endpoints")

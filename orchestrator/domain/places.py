"""Storage addresses as people write them."""

import os

from orchestrator.domain.errors import InvalidSpecification


def local_path(storage: str) -> str:
    """Returns the absolute path of a storage on a disk.

    Raises:
        InvalidSpecification: it is an object store, which this version cannot use.
    """
    scheme, colon, rest = storage.partition("://")
    if colon and scheme != "file":
        raise InvalidSpecification(
            f"storage: given {storage!r}; this version keeps studies on a disk: give a directory or a file:// address"
        )
    return os.path.abspath(os.path.expanduser(rest if colon else storage))

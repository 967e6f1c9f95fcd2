"""What nothing refers to any more is taken away: superseded checkpoints, and what a crash left half written.

Only to be called while no worker of the study runs: a checkpoint is published before it is reported, and until then
nothing refers to it.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from orchestrator.domain.errors import StorageError
from orchestrator.journal import Storage
from orchestrator.study import Layout

SWEEPERS = 8  # an object store answers in tens of milliseconds, to any number of questions at once


def leftovers(layout: Layout, checkpoints: Iterable[str], bundles: Iterable[str]) -> list[str]:
    """Returns the addresses of what a study's storage holds and none of the given addresses refers to, sorted."""
    return [place.child(name).uri for place, name in _unreferred(layout, checkpoints, bundles)]


def sweep(layout: Layout, checkpoints: Iterable[str], bundles: Iterable[str]) -> list[str]:
    """Removes the leftovers and returns what they were; what cannot be removed now is left to the next time."""
    found = _unreferred(layout, checkpoints, bundles)
    if found:
        with ThreadPoolExecutor(SWEEPERS) as pool:
            list(pool.map(_remove, found))
    if layout.checkpoints.is_local:
        for trial in layout.checkpoints.folders():
            with suppress(OSError):  # it holds something
                (layout.checkpoints.local_path / trial).rmdir()
    return [place.child(name).uri for place, name in found]


def _remove(found: tuple[Storage, str]) -> None:
    place, name = found
    with suppress(StorageError):
        place.delete_tree(name)


def _unreferred(layout: Layout, checkpoints: Iterable[str], bundles: Iterable[str]) -> list[tuple[Storage, str]]:
    found = []
    for place, depth, addresses in ((layout.bundles, 1, bundles), (layout.checkpoints, 2, checkpoints)):
        kept = {place.name_of(address) for address in addresses}
        found += [(place, name) for name in _folders(place, depth) if name not in kept]
    return found


def _folders(place: Storage, depth: int) -> list[str]:
    """Returns the folders at a depth, sorted; those on a disk may be empty, an object store's are what files say."""
    if not place.is_local:
        return sorted({"/".join(name.split("/")[:depth]) for name in place.names() if name.count("/") >= depth})
    names = [""]
    for _ in range(depth):
        names = [f"{name}/{below}".lstrip("/") for name in names for below in place.folders(name)]
    return names

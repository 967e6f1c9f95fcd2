"""Bundles where they lie: those on a disk are opened in place, those in an object store from a copy on this host.

A copy is named by the hash of what was published and never changes; every process of the host shares it. The copies
that were opened longest ago are taken away: whatever is gone is brought here again.
"""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

from deploy.bundle import Bundle
from orchestrator.domain.errors import BundleError, NotAsPublished, StorageError
from orchestrator.journal import Storage, cache_directory

KEPT = 16  # copies on this host: the version that answers, and those to which one goes back
KEPT_BYTES = 4 << 30
HALF_SECONDS = 3600.0  # a copy that is not whole after so long is a killed process's


def open_bundle(address: str, *, threads: int = 1, on_gpu: bool = False) -> Bundle:
    """Returns the bundle at a path or an address, checked, its model loaded; brings it to this host where needed.

    Raises:
        BundleError: it is missing, damaged, edited, or its model cannot be loaded.
        StorageError: the object store cannot be reached.
    """
    if "://" not in address or address.startswith("file://"):
        return Bundle.open(address, threads=threads, on_gpu=on_gpu)
    copy = _copy(address)
    try:
        bundle = Bundle.open(copy, threads=threads, on_gpu=on_gpu)
    except BundleError:  # the copy is damaged, or was taken away; a second one that is damaged is so where it lies
        shutil.rmtree(copy, ignore_errors=True)
        bundle = Bundle.open(_copy(address), threads=threads, on_gpu=on_gpu)
    return replace(bundle, uri=address)


def _copy(address: str) -> Path:
    whole, question, options = address.partition("?")
    parent, _, name = whole.rpartition("/")
    storage = Storage.of(f"{parent}{question}{options}")
    try:
        published = storage.published(name)
        if published is None:
            raise BundleError(f"The bundle {address} is not there. Was it deleted? Export the model again.")
        copy = cache_directory() / "bundles" / published.sha256
        if copy.is_dir():
            os.utime(copy)  # says when it was last opened
        else:
            _bring(storage, name, copy)
    except NotAsPublished as error:
        raise BundleError(
            f"The bundle {address} was altered where it lies: {error}. Export the model again."
        ) from error
    return copy


def _bring(storage: Storage, name: str, copy: Path) -> None:
    try:
        storage.download(name, copy)
    except StorageError:
        if not copy.is_dir():  # else another process was faster
            raise
    _prune(copy)


def _prune(newest: Path) -> None:
    """Takes away the copies opened longest ago, beyond what is kept; the newest stays, however large it is."""
    opened, kept, size = {}, 0, 0
    for path in newest.parent.iterdir():
        try:
            opened[path] = path.stat().st_mtime
        except FileNotFoundError:  # another process is at the same
            continue
    for path in sorted(opened, key=lambda path: (path != newest, -opened[path])):
        if path.name.startswith("."):
            is_over = time.time() - opened[path] > HALF_SECONDS
        else:
            kept, size = kept + 1, size + sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            is_over = path != newest and (kept > KEPT or size > KEPT_BYTES)
        if is_over:
            shutil.rmtree(path, ignore_errors=True)

"""Bundles where they lie: those on a disk are opened in place, those in an object store from a copy on this host.

A copy is named by the hash of what was published and never changes; every process of the host shares it.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from deploy.bundle import Bundle
from orchestrator.domain.errors import BundleError, StorageError
from orchestrator.journal import Storage, cache_directory


def open_bundle(address: str, *, threads: int = 1) -> Bundle:
    """Returns the bundle at a path or an address, checked, its model loaded; brings it to this host where needed.

    Raises:
        BundleError: it is missing, damaged, edited, or its model cannot be loaded.
        StorageError: the object store cannot be reached.
    """
    if "://" not in address or address.startswith("file://"):
        return Bundle.open(address, threads=threads)
    try:
        bundle = Bundle.open(_copy(address), threads=threads)
    except BundleError:  # the copy was damaged; a second one that is, is damaged where it lies
        shutil.rmtree(_copy(address))
        bundle = Bundle.open(_copy(address), threads=threads)
    return replace(bundle, uri=address)


def _copy(address: str) -> Path:
    whole, question, options = address.partition("?")
    parent, _, name = whole.rpartition("/")
    storage = Storage.of(f"{parent}{question}{options}")
    published = storage.published(name)
    if published is None:
        raise BundleError(f"The bundle {address} is not there. Was it deleted? Export the model again.")
    copy = cache_directory() / "bundles" / published.sha256
    if not copy.is_dir():
        try:
            storage.download(name, copy)
        except StorageError:
            if not copy.is_dir():  # else another process was faster
                raise
    return copy

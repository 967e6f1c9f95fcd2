"""The directory that an export goes to: new or empty, and complete or not there."""

import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from deploy.bundle import Bundle, local_directory
from orchestrator.domain.errors import EndpointError


def written(directory: Path, write: Callable[[Path], None]) -> Path:
    """Returns the directory after `write` has filled it: beside its place first, then moved there.

    Raises:
        EndpointError: something is there already, or it cannot be written.
    """
    place = directory.absolute()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise EndpointError(f"{place} is not empty. Give a new directory: an export overwrites nothing.")
    beside = place.with_name(f".{place.name}.{secrets.token_hex(6)}")
    try:
        beside.mkdir(parents=True)
        write(beside)
        os.rename(beside, place)
    except OSError as error:
        raise EndpointError(f"The export cannot be written to {place} ({error.strerror}).") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return place


def copy_bundle(bundle: Bundle, place: Path) -> None:
    """Copies the bundle's files, as they were published."""
    shutil.copytree(local_directory(bundle.uri), place)

"""Packs a directory for the cluster: what its jobs are to import and read.

Ray's own rules apply: what .gitignore and .rayignore name stays here, and so do version control, virtual environments
and results.
"""

import hashlib
import logging
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from ray._private.runtime_env.packaging import create_package

from orchestrator.domain.errors import InvalidInput

LARGEST = 100 * 2**20  # bytes; what Ray's job server takes
NEVER = ["**/.git", "**/.venv", "**/venv", "**/runs", "**/__pycache__", "**/.mypy_cache", "**/.pytest_cache"]
SHOWN = 3


@dataclass(frozen=True, slots=True)
class Package:
    """A packed directory."""

    file: Path
    sha256: str  # of names and contents; not of times


@contextmanager
def packed(directory: Path) -> Iterator[Package]:
    """Yields the directory as a package, which is gone afterwards.

    Raises:
        InvalidInput: it is larger than the cluster takes; the largest files in it are named.
    """
    with TemporaryDirectory(prefix="orchestrator-package-") as place:
        file = Path(place) / "code.zip"
        create_package(str(directory), file, include_gitignore=True, excludes=NEVER, logger=_silent())
        with zipfile.ZipFile(file) as package:
            _require_small(directory, file.stat().st_size, package.infolist())
            yield Package(file, _digest(package))


def _require_small(directory: Path, size: int, members: list[zipfile.ZipInfo]) -> None:
    if size <= LARGEST:
        return
    largest = sorted(members, key=lambda member: -member.file_size)[:SHOWN]
    named = ", ".join(f"{member.filename} ({_mib(member.file_size)})" for member in largest)
    raise InvalidInput(
        f"the directory {directory} is {_mib(size)}, and the cluster takes {_mib(LARGEST)}; the largest files are "
        f"{named}. Name what the study does not need in {directory / '.rayignore'} (written as in .gitignore), or put "
        "data where every host reads it"
    )


def _digest(package: zipfile.ZipFile) -> str:
    digest = hashlib.sha256()
    for name in sorted(package.namelist()):
        content = b"" if name.endswith("/") else package.read(name)
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _mib(size: float) -> str:
    return f"{size / 2**20:.1f} MiB"


def _silent() -> logging.Logger:
    logger = logging.getLogger("orchestrator.packing")
    logger.setLevel(logging.CRITICAL)
    return logger

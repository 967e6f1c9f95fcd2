"""A directory on a disk behind the storage: every file appears whole, under its name, or not at all."""

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from orchestrator.journal.contents import Source

CHUNK_BYTES = 1 << 20
PART = ".part"  # ends the names of files that are being written; what a crash leaves under one is no file of ours


class Disk:
    """The files under one directory; raises OSError as the operating system does."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def below(self, name: str) -> "Disk":
        """Returns the files of a folder."""
        return Disk(self.root / name)

    def read(self, name: str) -> bytes:
        """Returns the content."""
        return (self.root / name).read_bytes()

    def chunks(self, name: str, start: int) -> Iterator[bytes]:
        """Yields the content from a byte on, piece by piece."""
        with (self.root / name).open("rb") as file:
            file.seek(start)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def write(self, name: str, source: Source, *, new: bool) -> None:
        """Writes beside, syncs, then publishes under the name; with `new` an existing file is an error."""
        target = self.root / name
        created = _make_folders(target.parent)
        beside = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}{PART}")
        try:
            with beside.open("xb") as file:
                file.writelines(source())
                file.flush()
                os.fsync(file.fileno())
            if new:
                os.link(beside, target)
            else:
                beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
        for folder in (target.parent, *created):
            sync_folder(folder)

    def sizes(self, folder: str) -> dict[str, int]:
        """Returns the size in bytes of every file below a folder, by its name."""
        found = {}
        for directory, _, files in os.walk(self.root / folder):
            for file in files:
                path = Path(directory, file)
                if not file.endswith(PART):
                    try:
                        found[path.relative_to(self.root).as_posix()] = path.stat().st_size
                    except FileNotFoundError:  # deleted since the walk saw it
                        continue
        return found

    def folders(self, folder: str) -> list[str]:
        """Returns the names of the folders directly below a folder."""
        try:
            return [entry.name for entry in os.scandir(self.root / folder) if entry.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name, or a folder that holds anything."""
        path = self.root / name
        return any(path.iterdir()) if path.is_dir() else path.exists()

    def delete(self, name: str) -> None:
        """Removes one file; a missing one is no error."""
        (self.root / name).unlink(missing_ok=True)

    def delete_tree(self, name: str) -> None:
        """Removes a folder with all that is in it; a missing one is no error."""
        if (self.root / name).is_dir():
            shutil.rmtree(self.root / name)


def _make_folders(folder: Path) -> list[Path]:
    """Makes a folder; returns those that have to be synced for it to survive a power cut."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return [each.parent for each in missing]


def sync_folder(folder: Path) -> None:
    """Brings the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

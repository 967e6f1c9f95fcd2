"""What stands behind a storage: the few verbs that a disk and an object store have in common."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

Source = Callable[[], Iterable[bytes]]
"""Gives a file's content from its beginning, each time that it is called: an attempt may have to be repeated."""


class Files(Protocol):
    """Files by name, `/` between folders. Everything raises OSError; a missing file FileNotFoundError."""

    def below(self, name: str) -> "Files":
        """Returns the files of a folder."""

    def read(self, name: str) -> bytes:
        """Returns the content."""

    def chunks(self, name: str, start: int) -> Iterator[bytes]:
        """Yields the content from a byte on, piece by piece."""

    def write(self, name: str, source: Source, *, new: bool) -> None:
        """Makes a file that appears whole or not at all; with `new`, FileExistsError where one is seen to exist."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Returns the size in bytes of every file below a folder, by its name; of a missing folder, nothing."""

    def folders(self, folder: str) -> list[str]:
        """Returns the names of the folders directly below a folder."""

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name, or a folder that holds anything."""

    def delete(self, name: str) -> None:
        """Removes one file; a missing one is no error."""

    def delete_tree(self, name: str) -> None:
        """Removes a folder with all that is in it; a missing one is no error."""

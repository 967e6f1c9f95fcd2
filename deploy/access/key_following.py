"""How a replica learns of tokens that were made, rotated or revoked: it looks at the storage, often."""

import logging
import os
import threading

from deploy.access.keyring import Keyring
from deploy.access.token_book import FOLDER, TokenBook
from deploy.access.tokens import token_file, token_of
from deploy.places import endpoint_place
from orchestrator.domain.errors import OrchestratorError
from orchestrator.journal import AnyStorage

logger = logging.getLogger(__name__)

FOLLOW_SECONDS = 0.25  # a look costs 40 µs
STORE_FOLLOW_SECONDS = 2.0  # an object store is paid for each listing

Mark = frozenset[tuple[str, int, int]]


class KeyFollower:
    """Keeps a keyring as the storage has it. Used by one thread at a time; never writes to the storage."""

    def __init__(self, storage: AnyStorage, name: str) -> None:
        self._storage = storage
        self._name = name
        self._book = TokenBook(storage, name)
        self._place = endpoint_place(storage, name)
        self._fault = ""
        self._mark = self._look()
        self.keyring = Keyring(token_of(storage, name), self._book.read())

    def follow_until(self, ended: threading.Event) -> None:
        """Follows until `ended` is set."""
        while not ended.wait(FOLLOW_SECONDS if self._place.is_local else STORE_FOLLOW_SECONDS):
            self.catch_up()

    def catch_up(self) -> None:
        """Takes up what changed. While the storage cannot be read, what opened goes on to open."""
        try:
            mark = self._look()
            if mark != self._mark:
                self.keyring.put(token_of(self._storage, self._name), self._book.read())
                self._mark = mark
            self._fault = ""
        except (OrchestratorError, OSError) as error:
            if self._fault != str(error):
                logger.warning("This replica cannot follow the endpoint's tokens: %s", error)
            self._fault = str(error)

    def _look(self) -> Mark:
        """Returns what differs when a token did."""
        if not self._place.is_local:
            return frozenset((name, size, 0) for name, size in self._place.sizes(f"{FOLDER}/").items())
        own = token_file(self._storage, self._name).stat()
        return frozenset({("", own.st_ino, own.st_mtime_ns), *_files(self._place.local_path / FOLDER)})


def _files(folder: os.PathLike[str]) -> list[tuple[str, int, int]]:
    try:
        with os.scandir(folder) as entries:
            return [(entry.name, 0, 0) for entry in entries]  # a file of a revision never changes
    except FileNotFoundError:
        return []

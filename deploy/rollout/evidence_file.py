"""The book of evidence on the storage, beside the journal: what the endpoint actor would forget when it dies.

Counts are no decisions: they are written over, and the journal keeps those that a decision was made from.
"""

import logging
import time

import orjson

from deploy.places import endpoint_place
from deploy.rollout.evidence import EvidenceBook
from orchestrator.domain.errors import StorageError

logger = logging.getLogger(__name__)

NAME = "evidence.json"
SAVE_SECONDS, STORE_SAVE_SECONDS = 1.0, 10.0  # an object store is paid for each write


class EvidenceFile:
    """The book, and its file. One writer, the endpoint actor, which calls it under a lock.

    A file that cannot be read is left behind: replicas say again what they counted.
    """

    def __init__(self, storage: str, name: str) -> None:
        self._place = endpoint_place(storage, name)
        self._book: EvidenceBook | None = None
        self._saved: bytes | None = None
        self._saved_at = 0.0

    @property
    def book(self) -> EvidenceBook:
        """The book, read at the first use."""
        if self._book is None:
            self._book = self._read()
        return self._book

    def save(self, *, at_once: bool = False) -> None:
        """Writes what changed, about once a second; what cannot be written is tried again later."""
        pause = SAVE_SECONDS if self._place.is_local else STORE_SAVE_SECONDS
        if not at_once and time.monotonic() - self._saved_at < pause:
            return
        self._saved_at = time.monotonic()
        content = orjson.dumps(self.book.to_dict())
        if content == self._saved:
            return
        try:
            self._place.write(NAME, content)
            self._saved = content
        except StorageError as error:
            logger.warning("The evidence of the rollout was not written: %s", error)

    def _read(self) -> EvidenceBook:
        try:
            content = self._place.find(NAME)
            return EvidenceBook() if content is None else EvidenceBook.from_dict(orjson.loads(content))
        except (StorageError, ValueError, KeyError, TypeError, AttributeError) as error:
            logger.warning("The evidence of earlier rollouts cannot be read: %s", error)
            return EvidenceBook()

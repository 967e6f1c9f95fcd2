"""Refused authentications on their way to the audit log: counted by source, so that no flood fills a storage.

A request that is refused costs a look into a dictionary. A thread of the replica writes what came together, at most an
entry for each of a few sources and one for all others; how often it happened stands in each.
"""

import logging
import threading
from dataclasses import replace

from deploy.access.audit import REFUSED, AuditLog, Entry, now_text
from orchestrator.domain.errors import OrchestratorError
from orchestrator.journal import AnyStorage

logger = logging.getLogger(__name__)

MOST_SOURCES = 16  # of one writing; the storage grows by at most 30 MB a day for a replica that is attacked all day
WRITE_SECONDS = 10.0
STORE_WRITE_SECONDS = 60.0  # an object store is paid for each object
OTHERS = "others"
NOBODY = "unknown"  # a wrong token has no name

Source = tuple[str, str, str]


class Denials:
    """Counts refusals. Written by the event loop, emptied by one thread."""

    def __init__(self) -> None:
        self._entries: dict[Source, Entry] = {}
        self._changing = threading.Lock()

    def note(self, why: str, who: str, origin: str) -> None:
        """Counts one: why it was refused, the token's name where that is known, and the address that it came from."""
        with self._changing:
            source = (why, who, origin)
            if source not in self._entries and len(self._entries) >= MOST_SOURCES:
                source = (why, OTHERS, OTHERS)
            before = self._entries.get(source)
            if before is None:
                self._entries[source] = Entry(
                    now_text(), source[1] or NOBODY, "authentication", REFUSED, source[2], why
                )
            else:
                self._entries[source] = replace(before, times=before.times + 1)

    def take(self) -> list[Entry]:
        """Returns what came together, and begins anew."""
        with self._changing:
            taken, self._entries = list(self._entries.values()), {}
        return taken


def write_until(ended: threading.Event, storage: AnyStorage, name: str, denials: Denials) -> None:
    """Brings denials to the audit log until `ended` is set; those that the storage does not take are logged."""
    log = AuditLog(storage, name)
    while not ended.wait(WRITE_SECONDS if log.is_local else STORE_WRITE_SECONDS):
        entries = denials.take()
        try:
            log.append(entries)
        except OrchestratorError as error:
            logger.warning("%d refusals are not in the audit log: %s", sum(entry.times for entry in entries), error)

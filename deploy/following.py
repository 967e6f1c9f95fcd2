"""How a replica stays true to the endpoint's journal, whatever message it missed.

The endpoint actor tells running replicas of a promotion at once; one that was starting at that moment finds it here.
"""

import os

from deploy.endpoint import replay
from deploy.versions import Routing
from orchestrator.journal import AnyStorage, Storage, read_journal

Mark = frozenset[tuple[str, int]]


class JournalFollower:
    """Reads an endpoint's journal again when one of its files grew. Used by one thread at a time; never writes."""

    def __init__(self, place: AnyStorage) -> None:
        self._place = Storage.of(place)
        self.is_local = self._place.is_local
        self._mark: Mark | None = None
        self._routing: Routing | None = None

    def routing(self) -> Routing | None:
        """Returns what has to be served now. Costs one listing (20 µs on a disk) when nothing happened.

        Raises:
            JournalDamaged: when the journal cannot be trusted.
            StorageError: when it cannot be read.
        """
        mark = self._look()
        if mark != self._mark:
            self._routing = replay(read_journal(self._place)).routing if mark else None
            self._mark = mark
        return self._routing

    def _look(self) -> Mark:
        if not self.is_local:
            found = self._place.sizes()
            return frozenset((name, size) for name, size in found.items() if "/" not in name)  # claims change all along
        try:
            with os.scandir(self._place.local_path) as entries:
                return frozenset((entry.name, entry.stat().st_size) for entry in entries if entry.is_file())
        except FileNotFoundError:
            return frozenset()

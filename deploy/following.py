"""How a replica stays true to the endpoint's journal, whatever message it missed.

The endpoint actor tells running replicas of a promotion at once; one that was starting or leaving at that moment, and
has requests all the same, finds it here.
"""

import os

from deploy.places import journal_directory
from deploy.rollout.state import EndpointState, replay
from deploy.rollout.versions import Routing
from orchestrator.journal import AnyStorage, GrowingLog, Storage, read_journal

FOLLOW_SECONDS = 0.02  # between two looks on a disk, which cost 20 µs each
FOLLOWED_SECONDS = 0.05  # after which a replica has looked, on a busy host too
STORE_FOLLOW_SECONDS = 5.0  # an object store is paid for each listing
YOUNG_SECONDS, STORE_YOUNG_FOLLOW_SECONDS = 30.0, 0.5  # of a replica that nobody may know yet

Mark = frozenset[tuple[str, int]]


def endpoint_state(storage: AnyStorage, name: str) -> EndpointState:
    """Returns what an endpoint's journal says; it is not disturbed.

    Raises:
        StorageError, JournalDamaged: it cannot be read.
    """
    return replay(read_journal(journal_directory(storage, name)))


class JournalFollower:
    """Reads what came to an endpoint's journal when one of its files grew. Used by one thread at a time; never writes.

    What an endpoint has decided in its life costs nothing again: on a disk only the new events are read.
    """

    def __init__(self, place: AnyStorage) -> None:
        self._place = Storage.of(place)
        self.is_local = self._place.is_local
        self._mark: Mark | None = None
        self._log: GrowingLog | None = None
        self._state = EndpointState()

    def routing(self) -> Routing | None:
        """Returns what has to be served now; see `state`."""
        return self.state().routing

    def state(self) -> EndpointState:
        """Returns the endpoint's state now. Costs one listing (20 µs on a disk) when nothing happened.

        Raises:
            JournalDamaged: when the journal cannot be trusted.
            StorageError: when it cannot be read.
        """
        mark = self._look()
        if mark != self._mark:
            self._state = self._read() if mark else EndpointState()
            self._mark = mark
        return self._state

    def _read(self) -> EndpointState:
        if not self.is_local:
            return replay(read_journal(self._place))
        log, self._log = self._log, None  # begun anew where anything of this raises
        log = log or GrowingLog(self._place.local_path)
        is_anew, batches = log.read()
        state = replay(batches, None if is_anew else self._state)
        self._log = log
        return state

    def _look(self) -> Mark:
        if not self.is_local:
            found = self._place.sizes()
            return frozenset((name, size) for name, size in found.items() if "/" not in name)  # claims change all along
        try:
            with os.scandir(self._place.local_path) as entries:
                return frozenset((entry.name, entry.stat().st_size) for entry in entries if entry.is_file())
        except FileNotFoundError:
            return frozenset()

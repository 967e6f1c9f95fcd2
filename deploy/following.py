"""How a replica stays true to the endpoint's journal, whatever message it missed.

The endpoint actor tells running replicas of a promotion at once; one that was starting or leaving at that moment, and
has requests all the same, finds it here.
"""

import os
import time

from deploy.places import journal_directory
from deploy.rollout.state import EndpointState, replay
from deploy.rollout.versions import Routing
from orchestrator.journal import AnyStorage, GrowingLog, Storage, read_journal

FOLLOW_SECONDS = 0.02  # between two looks on a disk
FOLLOWED_SECONDS = 0.05  # after which a replica has looked, on a busy host too
WHOLE_LOOK_SECONDS = 1.0  # between two looks at all files; in between at what changes when something is written
COARSEST_TICK_NS = 2_000_000_000  # of the clock by which a file system dates its folders
STORE_FOLLOW_SECONDS = 5.0  # an object store is paid for each listing
YOUNG_SECONDS, STORE_YOUNG_FOLLOW_SECONDS = 30.0, 0.5  # of a replica that nobody may know yet

Mark = frozenset[tuple[str, int]]
Glance = tuple[int, str, int]
"""When a folder got or lost a file (ns since 1970), which file was written last, and how large it is (bytes)."""


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
        self._newest = ""  # path of the file that was written last
        self._glanced: Glance | None = None
        self._whole_at = 0.0

    def routing(self) -> Routing | None:
        """Returns what has to be served now; see `state`."""
        return self.state().routing

    def state(self) -> EndpointState:
        """Returns the endpoint's state now. Costs one listing when nothing happened; on a disk mostly less.

        Raises:
            JournalDamaged: when the journal cannot be trusted.
            StorageError: when it cannot be read.
        """
        glance, before = self._glance(), self._glanced
        if glance is not None and glance == before and time.monotonic() - self._whole_at < WHOLE_LOOK_SECONDS:
            return self._state
        self._glanced = None  # until what is there was read
        mark = self._look()
        if mark != self._mark:
            self._state = self._read() if mark else EndpointState()
            self._mark = mark
        self._glanced = glance
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
        self._whole_at, self._newest = time.monotonic(), ""
        try:
            with os.scandir(self._place.local_path) as entries:
                files = [(entry, entry.stat()) for entry in entries if entry.is_file()]
        except FileNotFoundError:
            return frozenset()
        if files:
            self._newest = max(files, key=lambda file: file[1].st_mtime_ns)[0].path
        return frozenset((entry.name, said.st_size) for entry, said in files)

    def _glance(self) -> Glance | None:
        """Returns what changes whenever something is written; None where nobody looked yet, or it would not tell.

        Each call of the system gives the interpreter away, and requests wait for it: a glance has two, a look at all
        files ten and more.
        """
        if not self._newest:
            return None
        try:
            changed, size = os.stat(self._place.local_path).st_mtime_ns, os.stat(self._newest).st_size
        except OSError:
            return None
        # a file that comes within the same tick of the file system's clock leaves the folder's time as it is
        return (changed, self._newest, size) if time.time_ns() - changed > COARSEST_TICK_NS else None

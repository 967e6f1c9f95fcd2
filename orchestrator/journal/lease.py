"""The claim of an object journal's one writer: a lease, kept by renewal, decided by order.

Object stores reached through `pyarrow.fs` have no conditional put, so every contender writes an object of its own,
`claims/<epoch>-<writer>`, and then lists the others (the one-bit algorithm of Burns and Lamport, "The mutual exclusion
problem, part II", 1986: set your flag; give way to a smaller name; wait for larger ones). A claim in the state BID
contends, HELD has won, RELEASED is given back; one that gave way is deleted. A winner's epoch is above every other
claim that it took for dead, so that whatever a dead contender's last request still does, the log does not end in it.

Time is only ever a difference on one host's own clock. A claim that was seen unchanged for its whole time to live is
dead. A holder that has not renewed for half of it looks for a successor before it acknowledges anything: it writes its
claim again and lists, and as the successor does the same before it seals, one of the two sees the other. That holds
whatever the clocks do; the lease only says when the look may be saved.
"""

import re
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import Enum

import orjson

from orchestrator.domain.errors import ExchangeRefused, StorageError, StudyBusy
from orchestrator.journal.segments import Objects

FOLDER = "claims/"
NAME = re.compile(FOLDER + r"(\d{8})-([A-Za-z0-9._]+)")
LOOKS = 12  # at a silent claim, in its time to live
ROUNDS = 5  # of contending; each one but the last was overtaken by somebody else's


class State(Enum):
    """What a claim says of its writer."""

    BID = "bid"
    HELD = "held"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Claim:
    """One writer's claim, as its object holds it; `beat` counts its renewals."""

    epoch: int
    writer: str
    host: str
    pid: int
    ttl_seconds: float
    state: State = State.BID
    beat: int = 0

    @property
    def name(self) -> str:
        """Its object's name in the journal."""
        return f"{FOLDER}{self.epoch:08d}-{self.writer}"

    @property
    def was_held(self) -> bool:
        """Whether its writer has ever been the one."""
        return self.state is not State.BID

    def to_bytes(self) -> bytes:
        """Returns the object's content."""
        return orjson.dumps({**asdict(self), "state": self.state.value})

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "Claim":
        """Returns what `to_bytes` wrote.

        Raises:
            StorageError: it is none.
        """
        try:
            given = orjson.loads(data)
            return cls(**{**given, "state": State(given["state"])})
        except (ValueError, TypeError, LookupError) as error:
            raise StorageError(f"{where} is no claim of a journal's writer ({error!r}); delete it") from error


class Lease:
    """The right to write one journal. Renewals may come from a thread beside the writer's."""

    def __init__(
        self,
        store: Objects,
        claim: Claim,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
        is_dead: Callable[[Claim], bool] = lambda claim: False,
    ) -> None:
        self._store = store
        self._claim = claim
        self._clock = clock
        self._sleep = sleep
        self._is_dead = is_dead  # knows at once of writers on this host
        self._valid_until = -1.0
        self._lost = ""
        self._lock = threading.RLock()

    @property
    def epoch(self) -> int:
        """The epoch that was won."""
        return self._claim.epoch

    @property
    def ttl_seconds(self) -> float:
        """How long the writer may be silent before another takes over."""
        return self._claim.ttl_seconds

    def acquire(self, newest_epoch: Callable[[], int]) -> None:
        """Becomes the journal's one writer, in an epoch of its own. Takes a dead writer's time to live where one is.

        Args:
            newest_epoch: The highest epoch of which the journal has anything.

        Raises:
            StudyBusy: somebody else is; the message names the process and its host.
            StorageError: the storage cannot be used.
        """
        for _ in range(ROUNDS):
            dead = self._wait_for_others()
            epoch = 1 + max([newest_epoch(), *(claim.epoch for claim in dead.values())])
            self._claim = replace(self._claim, epoch=epoch, state=State.BID, beat=0)
            try:
                rival = self._contend(dead)
                if rival is None and newest_epoch() < epoch:
                    return
            except BaseException:
                self._withdraw()
                raise
            self._withdraw()
            if rival is not None and not rival.was_held and rival.name < self._claim.name:
                raise _busy(self._store, rival)
        raise StudyBusy(
            f"the journal in {self._store.uri} is being opened by several at once; one writer at a time is allowed: "
            "try again in a moment"
        )

    def hold(self) -> None:
        """Says in the claim that it was won, and takes dead writers' claims away.

        Raises:
            StudyBusy: opening took so long that another has taken over already.
            StorageError: the storage did not take it.
        """
        try:
            self.renew()
        except ExchangeRefused as error:
            raise StudyBusy(str(error)) from error
        for claim in self._others().values():
            if claim.epoch < self.epoch:
                self._store.delete(claim.name)

    def renew(self) -> None:
        """Says that the writer is alive; one PUT, and a look for a successor where the lease had lapsed.

        Raises:
            ExchangeRefused: a successor has taken over.
            StorageError: the storage did not take it.
        """
        with self._lock:
            self._refuse_if_lost()
            started = self._clock()
            self._put(State.HELD)
            if self._clock() < self._valid_until:
                self._valid_until = started + self._claim.ttl_seconds / 2
            else:
                self._look_for_successor()

    def ensure(self) -> None:
        """Returns when no successor can have sealed what was on the storage at the call; free while the lease is valid.

        Raises:
            ExchangeRefused: a successor has taken over.
            StorageError: the storage cannot be asked.
        """
        if self._clock() < self._valid_until and not self._lost:
            return
        with self._lock:
            self._refuse_if_lost()
            self._look_for_successor()

    def release(self) -> None:
        """Gives the claim back, so that the next one opens at once."""
        with self._lock:
            if not self._lost:
                self._lost = "it was closed"
                self._valid_until = -1.0
                self._put(State.RELEASED)

    def _look_for_successor(self) -> None:
        successor = self._contend({})
        if successor is None:
            return
        self._lost = f"process {successor.pid} on host {successor.host} has taken over"
        self._valid_until = -1.0
        self._refuse_if_lost()

    def _refuse_if_lost(self) -> None:
        if self._lost:
            raise ExchangeRefused(
                f"epoch {self.epoch} of the journal in {self._store.uri} is over: {self._lost}; "
                "end this process, the study goes on in the other"
            )

    def _wait_for_others(self) -> dict[str, Claim]:
        """Returns all claims there are, once each is dead or given back."""
        others = self._others()
        newest_held = max([claim.epoch for claim in others.values() if claim.was_held], default=0)
        for claim in others.values():
            # a bid below a claim that was held has lost, whether its writer knows it or not
            if claim.state is not State.RELEASED and claim.epoch >= newest_held:
                seen = self._outcome(claim)
                if seen is not None and seen != claim and seen.state is not State.RELEASED:
                    raise _busy(self._store, seen)
        return others

    def _contend(self, dead: dict[str, Claim]) -> Claim | None:
        """Writes the claim, and returns the rival that it has to give way to, or None where it prevails."""
        with self._lock:
            started = self._clock()
            self._put(self._claim.state)
            while True:
                rivals = [claim for claim in self._others().values() if self._counts(claim, dead)]
                if not rivals:
                    self._valid_until = started + self._claim.ttl_seconds / 2
                    return None
                for rival in rivals:
                    if rival.was_held or rival.name < self._claim.name:
                        return rival
                # of larger names each one gives way when it sees us, has won already, or is dead
                seen = self._outcome(rivals[0])
                if seen == rivals[0]:
                    return seen

    def _counts(self, other: Claim, dead: dict[str, Claim]) -> bool:
        if other.epoch < self.epoch and (self._claim.was_held or other.state is State.RELEASED):
            return False
        known = dead.get(other.name)
        # one that has beaten since it was taken for dead is alive
        return known is None or (known.beat != other.beat and other.state is not State.RELEASED)

    def _outcome(self, claim: Claim) -> Claim | None:
        """Waits for a claim to change; returns the changed one, None when it is gone, itself when it is dead."""
        if self._is_dead(claim):
            return claim
        seen_at = self._clock()
        while True:
            self._sleep(claim.ttl_seconds / LOOKS)
            asked_at = self._clock()
            now = self._find(claim.name)
            if now != claim or asked_at - seen_at >= claim.ttl_seconds:
                return now

    def _others(self) -> dict[str, Claim]:
        names = [name for name in self._store.sizes(FOLDER) if NAME.fullmatch(name) and name != self._claim.name]
        claims = map(self._find, names)
        return {claim.name: claim for claim in claims if claim is not None}

    def _find(self, name: str) -> Claim | None:
        data = self._store.find(name)
        return None if data is None else Claim.from_bytes(data, f"{self._store.uri}/{name}")

    def _put(self, state: State) -> None:
        self._claim = replace(self._claim, state=state, beat=self._claim.beat + 1)
        self._store.write(self._claim.name, self._claim.to_bytes())

    def _withdraw(self) -> None:
        """Takes the bid away; where that fails it dies of age."""
        self._valid_until = -1.0
        try:
            self._store.delete(self._claim.name)
        except StorageError:
            return


def elapsed_seconds() -> float:
    """Returns seconds on a clock that never goes back and, where the system has one, counts a suspension too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _busy(store: Objects, claim: Claim) -> StudyBusy:
    return StudyBusy(
        f"the journal in {store.uri} is being written by process {claim.pid} on host {claim.host}; one writer at a "
        f"time is allowed: watch that one, stop it, or wait until it ends (and {claim.ttl_seconds:g} s longer)"
    )

"""The journal in an object store: one PUT for each durable batch, with those before it that were not durable.

A batch is spooled on the host's disk, then rides in the next segment. A segment whose PUT failed may still appear, so
it is put again, byte for byte, before anything else: what the storage refused for a while stays in the journal, in its
place. `segments` says how the objects are read as one log, `lease` how a second writer is kept away. After some
hundreds of segments the writer packs them into one object and deletes them; nothing depends on when that arrives.
"""

import itertools
import os
import re
import socket
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from orchestrator.domain.errors import ExchangeRefused, StorageError
from orchestrator.journal.lease import Claim, Lease, elapsed_seconds
from orchestrator.journal.packs import PackHeader
from orchestrator.journal.port import Event
from orchestrator.journal.records import HEAD, encode_events, pack
from orchestrator.journal.segments import (
    Objects,
    Segment,
    last_segment,
    listed,
    loose_ends,
    read_segments,
    resume_segments,
)
from orchestrator.journal.snapshots import KEPT, encode, places
from orchestrator.journal.spool import Spool

TTL_SECONDS = 20.0  # a successor on another host waits so long; S3's own hiccups last a few seconds
RENEWALS = 6  # in the time to live: two may fail before the lease lapses, at half of it
PACKED_AT = 256  # segments: a journal of 100,000 trials is some 600 packs instead of 150,000 objects
TIDIED_AT = 16  # segments that a former writer left: a look at fewer costs less than a pack of them
PACKED_AT_BYTES = 8 << 20  # they are kept in memory until then
BUFFER_BYTES = 4 << 20  # batches that are not durable go to the storage at this size all the same


class ObjectJournal:
    """The writer's end of a journal in an object store. One writer: the process that opened it, one thread at a time.

    Args:
        store: The journal's own prefix.
        spool: A folder on this host's disk, which survives the process; shared by all journals.
        clock: Seconds that only ever grow, across a suspension of the host too.
        sleep: Waits, while another's claim is watched.
        ttl_seconds: How long a writer may be silent before another takes over.
        lease_store: The same prefix for requests that must not take long; `store` where not given.
        host, writer: Who writes, for the message that the next one gets, and uniquely; made up where not given.

    Raises:
        StudyBusy: another process writes it.
        StorageError: the storage or the spool cannot be written.
        JournalDamaged, JournalTooNew: the epoch before cannot be gone on from.
    """

    def __init__(
        self,
        store: Objects,
        *,
        spool: Path | None = None,
        clock: Callable[[], float] = elapsed_seconds,
        sleep: Callable[[float], None] = time.sleep,
        ttl_seconds: float = TTL_SECONDS,
        lease_store: Objects | None = None,
        host: str = "",
        writer: str = "",
    ) -> None:
        self._store = store
        self._unusable = ""  # why nothing can be appended any more
        host = host or socket.gethostname()
        self.writer = writer or _unique_name(host)
        self._buffer: list[bytes] = []
        self._loose: list[tuple[Segment, bytes]] = []  # on the storage, and in no pack yet
        self._packed_at = PACKED_AT
        self._unconfirmed: tuple[Segment, list[bytes]] | None = None
        self._renewal: Renewal | None = None
        try:
            self._spool = Spool(spool or default_spool(), store.uri, self.writer)
        except OSError as error:
            raise _unspooled(error) from error
        self._aside = lease_store or store  # for what may fail
        self._lease = Lease(
            self._aside,
            Claim(0, self.writer, host, os.getpid(), ttl_seconds),
            clock=clock,
            sleep=sleep,
            is_dead=lambda claim: self._spool.is_dead(claim.writer),
        )
        try:
            self._lease.acquire(self._newest_epoch)
            self._begin()
        except BaseException:
            self._spool.close()
            raise

    def _newest_epoch(self) -> int:
        self._sizes = self._store.sizes()
        return max((segment.epoch for segment in listed(self._sizes)), default=0)

    def _begin(self) -> None:
        """Puts the epoch's first segment: the seal, and what the last writer left on this host."""
        try:
            self._put_first(self._last_segment())
            self._lease.hold()
        except BaseException:
            self._give_up()
            raise
        self._spool.clean()
        self._tidy()

    def _last_segment(self) -> Segment | None:
        """Returns what is to be sealed; looks again where it went into a former writer's pack meanwhile."""
        while True:
            try:
                return last_segment(self._store, listed(self._sizes))
            except StorageError:
                before, self._sizes = self._sizes, self._store.sizes()
                if self._sizes == before:
                    raise

    def _put_first(self, last: Segment | None) -> None:
        first = Segment(self._lease.epoch, self.writer, 0)
        data = first.encode(self._spool.left_by(last), last)
        self._store.write(first.name, data)
        self._next = Segment(first.epoch, first.writer, 1)
        self._size = sum(self._sizes[piece.name] for piece in listed(self._sizes)) + len(data)
        self._loose.append((first, data))

    def _give_up(self) -> None:
        """Leaves the claim as one that was held: the first segment may still appear, and has to be outnumbered."""
        self._unusable = "it was closed"
        try:
            self._lease.release()
        except StorageError:
            return

    def _tidy(self) -> None:
        """Packs what the last epoch left loose, deletes what is in a pack; where that fails, the next one does it."""
        loose, packed = loose_ends(listed(self._sizes))
        try:
            if TIDIED_AT <= len(loose) == loose[-1].number - loose[0].number + 1:
                self._pack(loose, list(self._store.read_many([segment.name for segment in loose])))
            self._delete(packed)
        except StorageError:
            return

    def _pack(self, segments: Sequence[Segment], contents: Sequence[bytes]) -> None:
        header = PackHeader(segments[0].epoch, segments[0].writer, segments[0].number, segments[-1].number)
        data = header.encode(contents)
        self._aside.write(header.name, data)
        self._size += len(data)
        self._sizes.update({segment.name: len(each) for segment, each in zip(segments, contents, strict=True)})
        self._delete([segment.name for segment in segments])

    def _delete(self, names: Sequence[str]) -> None:
        self._aside.delete_many(names)
        self._size -= sum(self._sizes.pop(name, 0) for name in names)

    def keep_renewed(self) -> None:
        """Renews the claim from a thread of its own until `close`, however long the writer has nothing to say."""
        self._renewal = Renewal(self._lease)

    @property
    def epoch(self) -> int:
        """The epoch that this writer began."""
        return self._lease.epoch

    @property
    def size_bytes(self) -> int:
        """The bytes of all segments on the storage, and of the batches that are not there yet."""
        return self._size + sum(map(len, self._buffer))

    def append(self, events: Sequence[Event], *, durable: bool = True) -> None:
        """Appends the events as one batch; see the port. With `durable` one PUT, else a write to the spool.

        Raises:
            ExchangeRefused: a later writer has taken over; nothing more of this one's counts.
            StorageError: the storage did not take it, or the spool's disk is full and the batch was not durable.
        """
        if self._unusable:
            raise StorageError(
                f"the journal in {self._store.uri} cannot be appended to: {self._unusable}; open the journal again"
            )
        if events:
            self._keep(pack(encode_events(events)), durable)
        if durable or sum(map(len, self._buffer)) > BUFFER_BYTES:
            self._bring()

    def renew(self) -> None:
        """Says that the writer lives; for an owner that does not `keep_renewed`. Raises as `append` does."""
        try:
            self._lease.renew()
        except ExchangeRefused:
            self._unusable = "a later writer has taken over"
            raise

    def read(self) -> Iterator[list[dict[str, Any]]]:
        """Yields the batches of all epochs, and those that are not on the storage yet; see the port."""
        yield from read_segments(self._store, until=self._last_put())
        yield from self._waiting()

    def resume(self) -> tuple[bytes | None, Iterator[list[dict[str, Any]]]]:
        """Returns the newest snapshot and the batches behind it; see the port."""
        state, batches = resume_segments(self._store, until=self._last_put())
        return state, itertools.chain(batches, self._waiting())

    def compact(self, state: bytes) -> None:
        """Publishes the state as an object beside the segments, which all stay; see the port."""
        self.append([])
        place = self._last_put().place
        self._aside.write(place.snapshot, encode(place, state))
        self._aside.delete_many([old.snapshot for old in places(self._aside.sizes())[KEPT:]])

    def _waiting(self) -> Iterator[list[dict[str, Any]]]:
        waiting = self._unconfirmed[1] if self._unconfirmed else []
        return iter([orjson.loads(memoryview(record)[HEAD.size :]) for record in (*waiting, *self._buffer)])

    def close(self) -> None:
        """Brings everything to the storage and gives the claim back; closing twice does nothing."""
        if self._unusable == "it was closed":
            return
        fenced, self._unusable = bool(self._unusable), "it was closed"
        if self._renewal is not None:
            self._renewal.stop()
        try:
            if not fenced and (self._buffer or self._unconfirmed):
                self._bring()
        finally:
            self._give_up()
            self._spool.close()

    def _keep(self, record: bytes, durable: bool) -> None:
        """Queues a batch, on this host's disk too: a later one there without it would be a gap."""
        self._buffer.append(record)
        try:
            if self._spool.is_whole:
                self._spool.add(self._next, record)
            elif not durable:
                raise OSError("an earlier batch is not in the spool")
        except OSError as error:
            if not durable:
                raise _unspooled(error) from error

    def _bring(self) -> None:
        """Puts what is queued, and returns once no successor can have sealed before it."""
        while self._unconfirmed or self._buffer:
            if self._unconfirmed is None:
                self._unconfirmed, self._buffer = (self._next, self._buffer), []
                self._next = Segment(self._next.epoch, self._next.writer, self._next.number + 1)
            segment, records = self._unconfirmed
            data = segment.encode(records)
            self._store.write(segment.name, data)
            self._unconfirmed = None
            self._size += len(data)
            self._loose.append((segment, data))
            self._spool.drop(segment)
        self._spool.is_whole = True
        try:
            self._lease.ensure()
        except ExchangeRefused:
            self._unusable = self._unusable or "a later writer has taken over"
            raise
        if len(self._loose) >= self._packed_at or sum(len(data) for _, data in self._loose) > PACKED_AT_BYTES:
            self._pack_own()

    def _pack_own(self) -> None:
        """Packs this writer's segments; where the storage does not take that, the next time will do."""
        segments, contents = zip(*self._loose, strict=True)
        try:
            self._pack(segments, contents)
        except StorageError:
            self._packed_at = len(self._loose) + PACKED_AT
            return
        self._loose, self._packed_at = [], PACKED_AT

    def _last_put(self) -> Segment:
        number = (self._unconfirmed[0] if self._unconfirmed else self._next).number
        return Segment(self._next.epoch, self._next.writer, number - 1)


class Renewal:
    """The thread that keeps a lease. It ends with its process, with `stop`, or when a successor has taken over."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal-lease", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends it; a renewal under way is waited for."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._lease.ttl_seconds / RENEWALS):
            try:
                self._lease.renew()
            except StorageError:
                continue  # the next append looks for itself and says what is wrong
            except ExchangeRefused:
                return


def default_spool() -> Path:
    """Returns where batches wait on this host: one folder for each user, gone at the latest when the host restarts."""
    return Path(tempfile.gettempdir()) / f"orchestrator-spool-{os.getuid()}"


def _unique_name(host: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9.]', '_', host)[:48]}.{os.getpid()}.{uuid.uuid4().hex[:8]}"


def _unspooled(error: OSError) -> StorageError:
    return StorageError(
        f"the spool in {error.filename or 'the temporary folder'} cannot be written: {error.strerror or error}; free "
        "some space there, or set TMPDIR to a disk with room"
    )

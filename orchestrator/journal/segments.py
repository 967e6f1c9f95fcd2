"""The journal in an object store: immutable segments, `<epoch>-<writer>-<number>.seg`, read as one log.

A segment is a header record and then whole batches, in the record form of a journal's file. The header of an epoch's
segment 0 holds `after`, the seal: the last segment that counts of the epoch before, `{"epoch", "writer", "number"}`.
The log is the newest epoch and whatever its seals lead back to; what a former writer put beyond a seal never happened.
Objects appear whole or not at all, so anything that does not check is damage, and so is a gap in the numbers.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from orchestrator.domain.errors import JournalDamaged, JournalTooNew, StorageError
from orchestrator.journal.records import pack, payload_of, record_end

FORMAT = 1
NAME = re.compile(r"(\d{8})-([A-Za-z0-9._]+)-(\d{8})\.seg")


class Objects(Protocol):
    """What a journal needs of a storage. After a write or a deletion every reader and every list has to show it."""

    @property
    def uri(self) -> str:
        """Its address."""

    def find(self, name: str) -> bytes | None:
        """Returns an object's content, or None where there is none."""

    def read_many(self, names: Sequence[str]) -> Iterator[bytes]:
        """Yields contents in the order of their names; StorageError for a missing one."""

    def write(self, name: str, data: bytes) -> None:
        """Makes or replaces an object whole. After a StorageError it may still appear, at any later time."""

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """Returns the bytes of every object whose name begins with `prefix`."""

    def delete(self, name: str) -> None:
        """Removes an object; a missing one is no error."""


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """The name of one segment."""

    epoch: int
    writer: str
    number: int

    @property
    def name(self) -> str:
        """Its object's name in the journal."""
        return f"{self.epoch:08d}-{self.writer}-{self.number:08d}.seg"

    def encode(self, records: Iterable[bytes], after: "Segment | None" = None) -> bytes:
        """Returns the object: a header, with the seal in an epoch's first, and the records."""
        header: dict[str, Any] = {
            "format": FORMAT,
            "epoch": self.epoch,
            "writer": self.writer,
            "number": self.number,
        }
        if self.number == 0:
            header["after"] = after and {"epoch": after.epoch, "writer": after.writer, "number": after.number}
        return pack(orjson.dumps(header)) + b"".join(records)


def listed(sizes: Iterable[str]) -> list[Segment]:
    """Returns the segments among the names of objects, oldest first."""
    matches = (NAME.fullmatch(name) for name in sizes)
    return sorted(Segment(int(match[1]), match[2], int(match[3])) for match in matches if match)


def last_segment(store: Objects, segments: Sequence[Segment]) -> Segment | None:
    """Returns the last segment that counts of the newest epoch: what a successor seals.

    Raises:
        JournalDamaged: it does not check, or one before it is missing.
        JournalTooNew: a newer version of the program wrote it.
    """
    if not segments:
        return None
    newest = _epoch(store, segments, segments[-1])
    for segment, data in zip(newest[-1:], store.read_many([newest[-1].name]), strict=True):
        list(_batches(store, segment, data))
    return newest[-1]


def read_segments(store: Objects, until: Segment | None = None) -> Iterator[list[dict[str, Any]]]:
    """Yields the batches of the log, up to and including the segment `until` where one is given.

    Raises:
        StorageError: there is no journal, or it cannot be read.
        JournalDamaged, JournalTooNew: see the port; the object is named.
    """
    segments = listed(store.sizes())
    if until is not None:
        segments = [segment for segment in segments if segment.epoch < until.epoch] + [
            segment
            for segment in segments
            if (segment.epoch, segment.writer) == (until.epoch, until.writer) and segment.number <= until.number
        ]
    if not segments:
        raise StorageError(f"the journal in {store.uri} cannot be read: there is none; check the address")
    return _read(store, _log(store, segments))


def _read(store: Objects, log: Sequence[Segment]) -> Iterator[list[dict[str, Any]]]:
    for segment, data in zip(log, store.read_many([segment.name for segment in log]), strict=True):
        yield from _batches(store, segment, data)


def _log(store: Objects, segments: Sequence[Segment]) -> list[Segment]:
    """Returns the segments that count, in order, by following the seals back from the newest epoch."""
    parts = [_epoch(store, segments, segments[-1])]
    while (seal := _seal(store, parts[-1][0])) is not None:
        part = [segment for segment in _epoch(store, segments, seal) if segment.number <= seal.number]
        if part[-1] != seal:
            raise _damaged(store, Segment(seal.epoch, seal.writer, part[-1].number + 1), "is missing")
        parts.append(part)
    return [segment for part in reversed(parts) for segment in part]


def _epoch(store: Objects, segments: Sequence[Segment], one: Segment) -> list[Segment]:
    """Returns all segments of one epoch and writer, without a gap."""
    own = [segment for segment in segments if (segment.epoch, segment.writer) == (one.epoch, one.writer)]
    for number in range(max(1, len(own))):
        if number >= len(own) or own[number].number != number:
            raise _damaged(store, Segment(one.epoch, one.writer, number), "is missing")
    return own


def _seal(store: Objects, first: Segment) -> Segment | None:
    for data in store.read_many([first.name]):
        after = _header(store, first, data, record_end(data, 0))["after"]
        if after:
            seal = Segment(after["epoch"], after["writer"], after["number"])
            if seal.epoch < first.epoch:
                return seal
            raise _damaged(store, first, "seals an epoch that is not before it")
    return None


def _batches(store: Objects, segment: Segment, data: bytes) -> Iterator[list[dict[str, Any]]]:
    end = record_end(data, 0)
    _header(store, segment, data, end)
    number = 0
    while end is not None and end < len(data):
        start, number = end, number + 1
        end = record_end(data, start)
        if end is None:
            raise _damaged(store, segment, f"does not check: record {number} at byte {start}")
        yield payload_of(data, start, end)


def _header(store: Objects, segment: Segment, data: bytes, end: int | None) -> dict[str, Any]:
    header = None if end is None else payload_of(data, 0, end)
    if not isinstance(header, dict):
        raise _damaged(store, segment, "does not check: record 0 at byte 0")
    if header["format"] > FORMAT:
        raise JournalTooNew(
            f"{store.uri}/{segment.name} has format {header['format']}, and this version of the program reads up to "
            f"{FORMAT}; install the version that wrote it, or a later one"
        )
    if (header["epoch"], header["writer"], header["number"]) != (segment.epoch, segment.writer, segment.number):
        raise _damaged(store, segment, f"is another one's copy: it says number {header['number']}")
    return header


def _damaged(store: Objects, segment: Segment, what: str) -> JournalDamaged:
    return JournalDamaged(
        f"{store.uri}/{segment.name} {what}; put back a copy of the object (the store's versions may have one), or "
        f"keep what lies before the damage by moving this object and all later ones of epoch {segment.epoch} and above "
        "away"
    )

"""The journal in an object store: immutable segments, `<epoch>-<writer>-<number>.seg`, read as one log.

A segment is a header record and then whole batches, in the record form of a journal's file. The header of an epoch's
segment 0 holds `after`, the seal: the last segment that counts of the epoch before, `{"epoch", "writer", "number"}`.
The log is the newest epoch and whatever its seals lead back to; what a former writer put beyond a seal never happened.
Objects appear whole or not at all, so anything that does not check is damage, and so is a gap in the numbers. Runs of
segments may lie in packs (see `packs`), and snapshots beside them (see `snapshots`); a reader that finds an object gone
looks again, for its writer may have packed it.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import orjson

from orchestrator.domain.errors import JournalDamaged, JournalTooNew, StorageError
from orchestrator.journal.packs import PackHeader
from orchestrator.journal.records import pack, payload_of, record_end
from orchestrator.journal.snapshots import Place, decode, places

T = TypeVar("T")

FORMAT = 1
NAME = re.compile(r"(\d{8})-([A-Za-z0-9._]+)-(\d{8})(?:\.seg|-(\d{8})\.pack)")


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
        """Removes an object; a missing one is no error. After a StorageError it may still go, at any later time."""

    def delete_many(self, names: Sequence[str]) -> None:
        """Removes objects; missing ones are no error."""


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

    @property
    def place(self) -> Place:
        """The place behind it in the log."""
        return Place(self.epoch, self.writer, self.number)

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


@dataclass(frozen=True, slots=True)
class Piece:
    """An object that holds one segment, or a run of them."""

    epoch: int
    writer: str
    first: int
    last: int
    name: str

    @property
    def is_pack(self) -> bool:
        """Whether it is a pack."""
        return self.name.endswith(".pack")

    @property
    def end(self) -> Segment:
        """Its last segment."""
        return Segment(self.epoch, self.writer, self.last)

    def is_of(self, segment: Segment) -> bool:
        """Whether it belongs to the segment's epoch and writer."""
        return (self.epoch, self.writer) == (segment.epoch, segment.writer)


def listed(sizes: Iterable[str]) -> list[Piece]:
    """Returns the pieces among the names of objects, oldest first, of those that begin alike the longest first."""
    matches = (NAME.fullmatch(name) for name in sizes)
    found = [Piece(int(m[1]), m[2], int(m[3]), int(m[4] or m[3]), m[0]) for m in matches if m]
    return sorted(found, key=lambda piece: (piece.epoch, piece.writer, piece.first, -piece.last))


def loose_ends(pieces: Sequence[Piece]) -> tuple[list[Segment], list[str]]:
    """Returns the newest epoch's segments that are in no pack, and the names of all that are in one."""
    packed_until: dict[tuple[int, str], int] = {}
    loose: list[Segment] = []
    packed: list[str] = []
    for piece in pieces:
        own = (piece.epoch, piece.writer)
        if piece.is_pack:
            packed_until[own] = max(piece.last, packed_until.get(own, -1))
        elif piece.last <= packed_until.get(own, -1):
            packed.append(piece.name)
        elif piece.is_of(pieces[-1].end):
            loose.append(piece.end)
    return loose, packed


def last_segment(store: Objects, pieces: Sequence[Piece]) -> Segment | None:
    """Returns the last segment that counts of the newest epoch: what a successor seals.

    Raises:
        StorageError: it cannot be read; it may have gone into a pack since it was listed.
        JournalDamaged: it does not check, or one before it is missing.
        JournalTooNew: a newer version of the program wrote it.
    """
    if not pieces:
        return None
    one = pieces[-1].end
    newest = _run(store, [piece for piece in pieces if piece.is_of(one)], one, 0, None)
    for part, data in zip(newest[-1:], store.read_many([newest[-1].piece.name]), strict=True):
        list(_batches(store, part, data))
    return newest[-1].piece.end


def read_segments(store: Objects, until: Segment | None = None) -> Iterator[list[dict[str, Any]]]:
    """Yields the batches of the log, up to and including the segment `until` where one is given.

    Raises:
        StorageError: there is no journal, or it cannot be read.
        JournalDamaged, JournalTooNew: see the port; the object is named.
    """
    return _read(store, _steady(store, lambda names: _whole_log(store, names, until)), until)


def resume_segments(
    store: Objects, until: Segment | None = None
) -> tuple[bytes | None, Iterator[list[dict[str, Any]]]]:
    """Returns the newest snapshot that counts and the batches behind it, or None and all. Raises as `read_segments`."""
    state, log = _steady(store, lambda names: _shortest_log(store, names, until))
    return state, _read(store, log, until)


@dataclass(frozen=True, slots=True)
class _Part:
    """A piece of the log, and which of its segments count."""

    piece: Piece
    first: int
    last: int


def _steady(store: Objects, look: Callable[[list[str]], T]) -> T:
    """Returns what one look at the names gives, another one where they changed meanwhile: a writer may have packed."""
    names = list(store.sizes())
    while True:
        try:
            return look(names)
        except StorageError:
            before, names = names, list(store.sizes())
            if names == before:
                raise


def _whole_log(store: Objects, names: Sequence[str], until: Segment | None) -> list[_Part]:
    pieces = _up_to(listed(names), until)
    if not pieces:
        raise StorageError(f"the journal in {store.uri} cannot be read: there is none; check the address")
    log = _log(store, pieces)
    assert log is not None, "only a place can be outside the log"
    return log


def _shortest_log(store: Objects, names: Sequence[str], until: Segment | None) -> tuple[bytes | None, list[_Part]]:
    for place in places(names):
        log = _log(store, _up_to(listed(names), until), place)
        data = None if log is None else store.find(place.snapshot)
        state = None if data is None else decode(place, data)
        if log is not None and state is not None:
            return state, log
    return None, _whole_log(store, names, until)


def _up_to(pieces: Sequence[Piece], until: Segment | None) -> list[Piece]:
    return [
        piece
        for piece in pieces
        if until is None or piece.epoch < until.epoch or (piece.is_of(until) and piece.last <= until.number)
    ]


def _read(store: Objects, log: Sequence[_Part], until: Segment | None) -> Iterator[list[dict[str, Any]]]:
    contents = store.read_many([part.piece.name for part in log])
    for index, part in enumerate(log):
        try:
            data = next(contents)
        except StorageError as error:
            yield from _read(store, _found_again(store, log[index:], until, error), until)
            return
        yield from _batches(store, part, data)


def _found_again(store: Objects, left: Sequence[_Part], until: Segment | None, error: StorageError) -> list[_Part]:
    """Returns what is left of a log whose next object is gone, for it was packed; raises the error where none is."""
    begin = left[0]
    names = list(store.sizes())
    if {part.piece.name for part in left} <= set(names):
        raise error
    place = Place(begin.piece.epoch, begin.piece.writer, begin.first - 1)
    log = _log(store, _up_to(listed(names), until), place)
    if log is None:
        raise StorageError(f"the journal in {store.uri} went on elsewhere while it was read; read it again")
    return log


def _log(store: Objects, pieces: Sequence[Piece], after: Place | None = None) -> list[_Part] | None:
    """Returns what counts, in order, by following the seals back from the newest epoch to its beginning or to a place.

    None where the seals do not lead to the place, or end before it.
    """
    if not pieces:
        return None
    parts: list[list[_Part]] = []
    epochs = _by_epoch(pieces)
    one, last = pieces[-1].end, None
    while True:
        begins = after is not None and (after.epoch, after.writer) == (one.epoch, one.writer)
        start = after.offset + 1 if after is not None and begins else 0
        own = epochs.get((one.epoch, one.writer), [])
        run = _run(store, own, one, start, last)
        if begins:
            end = max(piece.last for piece in own) if last is None else last
            return [part for each in reversed([*parts, run]) for part in each] if start <= end + 1 else None
        parts.append(run)
        if after is not None and one.epoch <= after.epoch:
            return None
        seal = _seal(store, run[0])
        if seal is None:
            return None if after is not None else [part for each in reversed(parts) for part in each]
        one, last = seal, seal.number


def _by_epoch(pieces: Iterable[Piece]) -> dict[tuple[int, str], list[Piece]]:
    epochs: dict[tuple[int, str], list[Piece]] = {}
    for piece in pieces:
        epochs.setdefault((piece.epoch, piece.writer), []).append(piece)
    return epochs


def _run(store: Objects, own: Sequence[Piece], one: Segment, start: int, last: int | None) -> list[_Part]:
    """Returns an epoch's segments from `start` to `last` (None: all there are), out of its pieces, without a gap."""
    run, number = [], start
    wanted = max((piece.last for piece in own), default=0) if last is None else last
    for piece in own:
        if piece.first > number:
            break
        if number <= min(piece.last, wanted):  # else it is in a pack that was taken before, or behind the seal
            run.append(_Part(piece, number, min(piece.last, wanted)))
            number = piece.last + 1
    if number <= wanted:
        raise _damaged(store, Segment(one.epoch, one.writer, number).name, one.epoch, "is missing")
    return run


def _seal(store: Objects, first: _Part) -> Segment | None:
    for data in store.read_many([first.piece.name]):
        content = _content(store, first.piece, data)
        after = _header(store, first.piece, content, 0, record_end(content, 0), 0)["after"]
        if after:
            seal = Segment(after["epoch"], after["writer"], after["number"])
            if seal.epoch < first.piece.epoch:
                return seal
            raise _damaged(store, first.piece.name, first.piece.epoch, "seals an epoch that is not before it")
    return None


def _content(store: Objects, piece: Piece, data: bytes) -> bytes:
    """Returns the bytes of the piece's segments, one after the other."""
    if not piece.is_pack:
        return data
    content = PackHeader(piece.epoch, piece.writer, piece.first, piece.last).decode(data)
    if content is None:
        raise _damaged(store, piece.name, piece.epoch, "does not check, or is of a later version of this program")
    return content


def _batches(store: Objects, part: _Part, data: bytes) -> Iterator[list[dict[str, Any]]]:
    piece = part.piece
    content = _content(store, piece, data)
    start, number, record = 0, piece.first - 1, 0
    while start < len(content):
        end = record_end(content, start)
        if end is None:
            raise _unchecked(store, piece, record, start)
        payload = payload_of(content, start, end)
        if start == 0 or isinstance(payload, dict):
            number, record = number + 1, 0
            _header(store, piece, content, start, end, number)
        elif part.first <= number <= part.last:
            yield payload
        start, record = end, record + 1
    if number != piece.last:
        raise _damaged(store, piece.name, piece.epoch, f"holds nothing behind segment {number}")


def _header(store: Objects, piece: Piece, data: bytes, start: int, end: int | None, number: int) -> dict[str, Any]:
    header = None if end is None else payload_of(data, start, end)
    if not isinstance(header, dict):
        raise _unchecked(store, piece, 0, start)
    if header["format"] > FORMAT:
        raise JournalTooNew(
            f"{store.uri}/{piece.name} has format {header['format']}, and this version of the program reads up to "
            f"{FORMAT}; install the version that wrote it, or a later one"
        )
    if (header["epoch"], header["writer"], header["number"]) != (piece.epoch, piece.writer, number):
        raise _damaged(store, piece.name, piece.epoch, f"is another one's copy: it says number {header['number']}")
    return header


def _unchecked(store: Objects, piece: Piece, record: int, start: int) -> JournalDamaged:
    return _damaged(store, piece.name, piece.epoch, f"does not check: record {record} at byte {start}")


def _damaged(store: Objects, name: str, epoch: int, what: str) -> JournalDamaged:
    return JournalDamaged(
        f"{store.uri}/{name} {what}; put back a copy of the object (the store's versions may have one), or "
        f"keep what lies before the damage by moving this object and all later ones of epoch {epoch} and above "
        "away"
    )

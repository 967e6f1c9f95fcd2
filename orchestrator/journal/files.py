"""A journal's directory: one append file per epoch, `<epoch>-<writer>.log`, and how they are read as one log.

Each file begins with a header record `{"format", "epoch", "writer", "after": {"file", "bytes"} | null}`. `after` seals
the file before: what a former writer wrote beyond that size never happened. Up to the seal every record must check;
in a file without a seal the tail may be torn. Beside them lie the newest snapshots (see `snapshots`).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import JournalDamaged, JournalTooNew, StorageError
from orchestrator.journal.records import HEAD, next_batch, payload_of, record_end
from orchestrator.journal.snapshots import Place, decode, places

FORMAT = 1
NAME = re.compile(r"(\d{8})-[A-Za-z0-9._]+\.log")
LONGEST_HEADER = 4096  # bytes

Header = Mapping[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class EpochFile:
    """One append file."""

    epoch: int
    path: Path


def epoch_files(directory: Path) -> list[EpochFile]:
    """Returns the journal's files, oldest first.

    Raises:
        StorageError: the directory cannot be listed.
    """
    try:
        names = [(NAME.fullmatch(path.name), path) for path in directory.iterdir()]
    except OSError as error:
        raise StorageError(
            f"the journal in {directory} cannot be read: {error.strerror}; check the path and its permissions"
        ) from error
    return sorted(EpochFile(int(match[1]), path) for match, path in names if match)


def read_header(path: Path) -> Header | None:
    """Returns the file's header, or None where it was not written whole.

    Raises:
        JournalTooNew: a newer version of the program wrote it.
    """
    with path.open("rb") as file:
        data = file.read(LONGEST_HEADER)
    end = record_end(data, 0)
    header = None if end is None else payload_of(data, 0, end)
    if not isinstance(header, dict):
        return None
    if header["format"] > FORMAT:
        raise JournalTooNew(
            f"{path} has format {header['format']}, and this version of the program reads up to {FORMAT}; "
            "install the version that wrote it, or a later one"
        )
    return header


def whole_size(path: Path) -> int:
    """Returns the size of the file up to its last whole record.

    Raises:
        JournalDamaged: a record before the last one does not check.
    """
    return sum(end - start for start, end in _records(path, path.read_bytes()))


@dataclass(frozen=True, slots=True)
class Log:
    """The files that count, oldest first, each with the size at which the next one found it to end (the last: None)."""

    files: Sequence[tuple[EpochFile, int | None]]
    gap: str = ""  # why what was before them is not there

    @classmethod
    def of(cls, files: Sequence[EpochFile]) -> "Log":
        """Returns the log that the newest file's seals lead back to; what none leads to never happened.

        Raises:
            JournalDamaged: more than a header was lost of a file that has none.
            JournalTooNew: a newer version of the program wrote one.
        """
        headers = {file.path.name: (file, read_header(file.path)) for file in files}
        whole = [(file, header) for file, header in headers.values() if header is not None]
        for file in [file for file, header in headers.values() if header is None]:
            whole_size(file.path)
        if not whole:
            return cls(())
        file, header = whole[-1]
        counted: list[tuple[EpochFile, int | None]] = [(file, None)]
        while header["after"]:
            name, size = header["after"]["file"], int(header["after"]["bytes"])
            earlier, its_header = headers.get(name, (None, None))
            if earlier is None or its_header is None:
                where = file.path.with_name(name)
                return cls(
                    tuple(reversed(counted)), f"{where} is missing, or its header is; put back a copy of the file"
                )
            counted.append((earlier, size))
            file, header = earlier, its_header
        return cls(tuple(reversed(counted)))

    def read(self) -> Iterator[list[dict[str, Any]]]:
        """Yields all batches, each file's up to its seal or else up to its last whole record.

        Raises:
            JournalDamaged: at once where a file is missing, else while reading.
        """
        if self.gap:
            raise JournalDamaged(self.gap)
        return _read(self.files, 0)

    def after(self, place: Place) -> Iterator[list[dict[str, Any]]] | None:
        """Returns the batches behind a place; None where the place is not in the log."""
        for index, (file, sealed) in enumerate(self.files):
            if file.path.name == f"{place.epoch:08d}-{place.writer}.log":
                size = file.path.stat().st_size if sealed is None else sealed
                return _read(self.files[index:], place.offset) if place.offset <= size else None
        return None


def resume_batches(directory: Path) -> tuple[bytes | None, Iterator[list[dict[str, Any]]]]:
    """Returns the newest snapshot that checks and the batches behind it, or None and all of them.

    Raises:
        StorageError: the directory cannot be listed.
        JournalDamaged, JournalTooNew: see `Log`.
    """
    log = Log.of(epoch_files(directory))
    for place in places(path.name for path in directory.iterdir()):
        rest = log.after(place)
        state = None if rest is None else _snapshot(directory, place)
        if rest is not None and state is not None:
            return state, rest
    return None, log.read()


def batches_from(path: Path, start: int) -> tuple[list[list[dict[str, Any]]], int]:
    """Returns the whole batches of a file that has no seal, from a record's beginning on, and where they end.

    Raises:
        JournalDamaged: a record before the last one does not check; it names its place in the part that was read.
    """
    with path.open("rb") as file:
        file.seek(start)
        data = file.read()
    batches, size = [], 0
    for begin, size in _records(path, data):
        if start + begin > 0:  # behind the header
            batches.append(payload_of(data, begin, size))
    return batches, start + size


def _snapshot(directory: Path, place: Place) -> bytes | None:
    try:
        return decode(place, (directory / place.snapshot).read_bytes())
    except OSError:  # a writer replaced it by a newer one, or the disk does not give it back: the events are there
        return None


def _read(files: Sequence[tuple[EpochFile, int | None]], start: int) -> Iterator[list[dict[str, Any]]]:
    """Yields the batches of the files, the first one's from a place on."""
    for file, sealed in files:
        data = file.path.read_bytes()
        if sealed is not None:
            data = data[:sealed]
        size = start
        for begin, end in _records(file.path, data, start):
            size = end
            if begin > 0:
                yield payload_of(data, begin, end)
        if sealed is not None and size != sealed:
            raise _damaged(file.path, "its last record", size)
        start = 0


def _records(path: Path, data: bytes, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yields (start, end) of the whole records; what is behind them is a torn tail, or else an error."""
    while (end := record_end(data, start)) is not None:
        yield start, end
        start = end
    if next_batch(data, start) is not None:
        raise _damaged(path, f"record {_count(data, start)}", start)


def _count(data: bytes, until: int) -> int:
    """Returns how many records lie before a place, by their lengths alone."""
    start, number = 0, 0
    while start + HEAD.size <= until:
        start, number = start + HEAD.size + HEAD.unpack_from(data, start)[0], number + 1
    return number


def _damaged(path: Path, record: str, offset: int) -> JournalDamaged:
    return JournalDamaged(
        f"{path}: {record} at byte {offset} does not check, though later ones do; put back a copy of the file, or keep "
        f"what lies before the damage with: truncate -s {offset} '{path}' (everything after it is lost, and the files "
        "of later epochs have to be moved away)"
    )

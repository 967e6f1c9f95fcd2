"""A journal's directory: one append file per epoch, `<epoch>-<writer>.log`, and how they are read as one log.

Each file begins with a header record `{"format", "epoch", "writer", "after": {"file", "bytes"} | null}`. `after` seals
the file before: what a former writer wrote beyond that size never happened. Up to the seal every record must check;
in a file without a seal the tail may be torn.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import JournalDamaged, JournalTooNew, StorageError
from orchestrator.journal.records import next_batch, payload_of, record_end

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


def read_batches(files: list[EpochFile]) -> Iterator[list[dict[str, Any]]]:
    """Yields the batches of all files in order, each up to its seal or else up to its last whole record."""
    headers = [read_header(file.path) for file in files]
    for index, file in enumerate(files):
        data = file.path.read_bytes()
        sealed = _seal(file.path, headers[index + 1 :])
        if sealed is not None:
            data = data[:sealed]
        size = 0
        for number, (start, end) in enumerate(_records(file.path, data)):
            size = end
            if number > 0:
                yield payload_of(data, start, end)
        if sealed is not None and size != sealed:
            raise _damaged(file.path, "its last record", size)


def _seal(path: Path, later: list[Header | None]) -> int | None:
    """Returns the size at which the next epoch found this file to end."""
    for header in later:
        if header is not None:
            after = header["after"]
            return int(after["bytes"]) if after and after["file"] == path.name else None
    return None


def _records(path: Path, data: bytes) -> Iterator[tuple[int, int]]:
    """Yields (start, end) of the whole records; what is behind them is a torn tail, or else an error."""
    start, number = 0, 0
    while (end := record_end(data, start)) is not None:
        yield start, end
        start, number = end, number + 1
    if next_batch(data, start) is not None:
        raise _damaged(path, f"record {number}", start)


def _damaged(path: Path, record: str, offset: int) -> JournalDamaged:
    return JournalDamaged(
        f"{path}: {record} at byte {offset} does not check, though later ones do; put back a copy of the file, or keep "
        f"what lies before the damage with: truncate -s {offset} '{path}' (everything after it is lost, and the files "
        "of later epochs have to be moved away)"
    )

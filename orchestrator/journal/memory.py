"""A journal that lives as long as its process: for tests, ask/tell and throw-away studies."""

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from orchestrator.domain.errors import StorageError
from orchestrator.journal.port import Event
from orchestrator.journal.records import encode_events


class MemoryJournal:
    """Batches in memory, through the same JSON as on a disk. One writer: the study that owns it."""

    epoch = 1
    writer = "memory"

    def __init__(self) -> None:
        self._batches: list[bytes] = []
        self._snapshot: tuple[bytes, int] | None = None  # and how many batches it stands for
        self._closed = False

    @property
    def size_bytes(self) -> int:
        """The bytes of all batches."""
        return sum(map(len, self._batches))

    def append(self, events: Sequence[Event], *, durable: bool = True) -> None:
        """Appends the events as one batch; see the port."""
        if self._closed:
            raise StorageError("this journal was closed; open it again to append")
        if events:
            # orjson's own bytes keep the kilobyte in which they were written: a copy is as long as it is
            self._batches.append(memoryview(encode_events(events)).tobytes())

    def read(self) -> Iterator[list[dict[str, Any]]]:
        """Yields the batches in the order in which they were appended; each time fresh copies."""
        return self._read(0)

    def resume(self) -> tuple[bytes | None, Iterator[list[dict[str, Any]]]]:
        """Returns the snapshot and the batches behind it; see the port."""
        state, number = self._snapshot or (None, 0)
        return state, self._read(number)

    def compact(self, state: bytes) -> None:
        """Keeps the state as the snapshot; see the port."""
        self.append([])
        self._snapshot = state, len(self._batches)

    def _read(self, start: int) -> Iterator[list[dict[str, Any]]]:
        for batch in self._batches[start:]:
            yield orjson.loads(batch)

    def close(self) -> None:
        """Refuses appends from now on; what was appended can still be read."""
        self._closed = True

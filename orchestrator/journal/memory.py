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
            self._batches.append(encode_events(events))

    def read(self) -> Iterator[list[dict[str, Any]]]:
        """Yields the batches in the order in which they were appended; each time fresh copies."""
        for batch in tuple(self._batches):
            yield orjson.loads(batch)

    def close(self) -> None:
        """Refuses appends from now on; what was appended can still be read."""
        self._closed = True

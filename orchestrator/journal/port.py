"""The port behind which every journal stands."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

Event = Mapping[str, Any]
"""One thing that happened, as plain JSON data; `type` says what."""


class Journal(Protocol):
    """An append-only log. One writer at a time; any number of readers."""

    def append(self, events: Sequence[Event], *, durable: bool = True) -> None:
        """Appends the events as one batch: after a crash either all of them are there or none.

        With `durable` they are on the storage when the call returns; without, they are with the operating system and
        a later durable append brings them to the storage first. Events hold finite numbers only.

        After a StorageError the batch is the journal's all the same, and must not be appended again: it may be there
        already, and goes before whatever is appended next. Until a durable append has returned, nobody may be told
        of it; one of no events tries that again.

        Raises:
            ExchangeRefused: a later writer has taken over; nothing more of this one's counts.
            StorageError: the storage does not take it, now or ever.
            ValueError: a number is not finite; the journal has nothing of the batch.
        """

    def read(self) -> Iterator[list[dict[str, Any]]]:
        """Yields the batches in the order in which they were appended, up to the last whole one.

        Raises:
            JournalDamaged: a record before the last one does not check; the place is named.
            JournalTooNew: a newer version of the program wrote it.
        """

    def resume(self) -> tuple[bytes | None, Iterator[list[dict[str, Any]]]]:
        """Returns the state of the newest snapshot and the batches behind it, or None and all of them.

        A snapshot that is damaged, or of a later version, or stands for what a former writer wrote too late, is as if
        it were not there.

        Raises:
            JournalDamaged, JournalTooNew: see `read`; a batch before the snapshot may be missing, and is not looked at.
        """

    def compact(self, state: bytes) -> None:
        """Publishes, as a snapshot, what all that was appended adds up to. `read` yields every batch as before.

        Whenever the process dies, either this snapshot counts or the one before.

        Raises:
            ExchangeRefused, StorageError: see `append`; the journal can be written all the same.
        """

    def close(self) -> None:
        """Releases the writer's claim; closing twice does nothing."""

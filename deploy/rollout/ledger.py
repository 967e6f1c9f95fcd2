"""An endpoint's journal and the state that follows from it, kept in step."""

from collections.abc import Sequence

from deploy.places import journal_directory
from deploy.rollout.state import EndpointState, Event, replay
from orchestrator.domain.errors import StorageError
from orchestrator.journal import Journal, open_journal


class Ledger:
    """What happened to an endpoint: on the storage first, then in `state`. One writer, which serialises `record`.

    Raises:
        StudyBusy: another process is this endpoint's writer.
        StorageError: the journal cannot be written, is damaged, or was written by a newer program.
    """

    def __init__(self, storage: str, name: str) -> None:
        self._journal: Journal = open_journal(journal_directory(storage, name))
        self._state = replay(self._journal.read())
        self._is_behind = False  # the journal holds what its storage did not take yet

    @property
    def state(self) -> EndpointState:
        """The state now; a value that never changes, so that readers need no lock."""
        return self._state

    def record(self, events: Sequence[Event]) -> bool:
        """Brings the events to the storage, then into the state; returns whether there were any.

        What a storage did not take raises and is in the state all the same, for the journal writes it before anything
        else: whoever asks again gets no answer until it has.
        """
        if not events and not self._is_behind:
            return False
        try:
            self._journal.append(events, durable=True)
        except StorageError:
            self._is_behind = True
            self._take(events)
            raise
        self._is_behind = False
        self._take(events)
        return bool(events)

    def _take(self, events: Sequence[Event]) -> None:
        state = self._state
        for event in events:
            state = state.apply(event)
        self._state = state

"""The decisions that were taken and are not written down yet."""

from orchestrator.domain.events import Ending, Event
from orchestrator.study.state import Phase, StudyState


class Ledger:
    """The state of a study, and the events that lead to it from where its journal ends.

    An event is applied to the state when it is entered, so that the next decision rests on it. One writer: the `Study`
    that owns it.
    """

    def __init__(self, state: StudyState) -> None:
        self.state = state
        self._events: list[Event] = []

    def enter(self, event: Event) -> None:
        """Applies a decision and keeps it for the journal."""
        self.state.apply(event)
        self._events.append(event)

    def take(self) -> list[Event]:
        """Returns what was entered since the last time."""
        events, self._events = self._events, []
        return events

    def begin_ending(self, now: float, reason: str) -> None:
        """Begins no more trials; the first reason stands."""
        if self.state.phase is Phase.RUNNING:
            self.enter(Ending(now, reason))

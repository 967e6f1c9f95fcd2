"""An endpoint's history: which version answered at any moment, with which share, who or what changed it, and why.

Read from its journal; nothing has to run.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deploy.rollout.evidence import Evidence
from deploy.rollout.judge import Rollout
from deploy.rollout.state import EndpointState
from orchestrator.domain.errors import EndpointError

ABOUT_PLACES = ("placed", "joined", "left")  # say where endpoints are, and nothing of what answers


@dataclass(frozen=True, slots=True)
class Change:
    """A change, and what held from then on.

    `shares` are the versions that answer with their shares of the requests, `shadow` the version that gets copies
    (None: none does), `version` the one that the change is about (None: all). `origin` is the address that asked
    for it, where that was over HTTP.
    """

    at: str
    event: str
    version: int | None
    who: str
    why: str
    shares: Mapping[int, float]
    shadow: int | None
    evidence: Evidence | None = None
    origin: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {
            "at": self.at,
            "event": self.event,
            "version": self.version,
            "who": self.who,
            "why": self.why,
            "origin": self.origin,
            "shares": {str(version): share for version, share in self.shares.items()},
            "shadow": self.shadow,
            "evidence": None if self.evidence is None else self.evidence.to_dict(),
        }


def changes(batches: Iterable[Iterable[Mapping[str, Any]]]) -> Iterator[Change]:
    """Yields every change of a journal, in order."""
    state = EndpointState()
    for batch in batches:
        for event in batch:
            state = state.apply(event)
            if event["type"] not in ABOUT_PLACES:
                yield _change(event, state)


def answering(course: Sequence[Change], at: str) -> Change | None:
    """Returns the change that held at a time; None before the first one.

    Args:
        course: all changes.
        at: ISO 8601; UTC where it names no offset.

    Raises:
        EndpointError: for a text that is no time.
    """
    moment = parse_time(at)
    return next((change for change in reversed(course) if parse_time(change.at) <= moment), None)


def parse_time(text: str) -> datetime:
    """Returns the time that ISO 8601 text means.

    Raises:
        EndpointError: it means none.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise EndpointError(
            f"{text!r} is no time. Give it as 2026-01-31T12:00, in UTC, or with an offset as 2026-01-31T12:00+02:00."
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _change(event: Mapping[str, Any], state: EndpointState) -> Change:
    evidence, version = event.get("evidence"), event.get("version")
    return Change(
        at=str(event["at"]),
        event=str(event["type"]),
        version=None if version is None else int(version),
        who=str(event["who"]),
        why=str(event["why"]),
        shares=_shares(state.current.number if state.current else None, state.rollout),
        shadow=state.rollout.version if state.rollout is not None and not state.rollout.weight else None,
        evidence=None if evidence is None else Evidence.from_dict(evidence),
        origin=str(event.get("origin", "")),
    )


def _shares(champion: int | None, rollout: Rollout | None) -> dict[int, float]:
    if champion is None:
        return {}
    if rollout is None or not rollout.weight:
        return {champion: 1.0}
    return {champion: 1.0 - rollout.weight, rollout.version: rollout.weight}

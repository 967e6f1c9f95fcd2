"""An endpoint's state: the fold over the events of its journal. Pure; the endpoint actor acts on it.

Events, plain JSON: `promoted` (a version answers from now on: who decided it, why, when), `rolled_back` (an earlier
version answers again) and `placed` (where the endpoint is reached). A version is a bundle, by its digest; versions
count from 1 and are never reused.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deploy.bundle import Lineage
from orchestrator.domain.errors import EndpointError

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Offer:
    """A checked bundle that wants to answer."""

    uri: str
    digest: str
    lineage: Lineage


@dataclass(frozen=True, slots=True)
class Version:
    """A bundle that answered at some time, and the decision that last made it do so."""

    number: int
    uri: str
    digest: str
    lineage: Lineage
    who: str
    why: str
    at: str

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {
            "version": self.number,
            "uri": self.uri,
            "digest": self.digest,
            "lineage": self.lineage.to_dict(),
            "who": self.who,
            "why": self.why,
            "at": self.at,
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Version":
        """Returns the version that `to_dict` wrote."""
        return cls(
            number=int(given["version"]),
            uri=str(given["uri"]),
            digest=str(given["digest"]),
            lineage=Lineage.from_dict(given["lineage"]),
            who=str(given["who"]),
            why=str(given["why"]),
            at=str(given["at"]),
        )


@dataclass(frozen=True, slots=True)
class Routing:
    """What replicas are told: which bundle answers, as which version; a higher generation is a later decision."""

    generation: int
    version: int
    uri: str

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {"generation": self.generation, "version": self.version, "uri": self.uri}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Routing":
        """Returns the routing that `to_dict` wrote."""
        return cls(int(given["generation"]), int(given["version"]), str(given["uri"]))


@dataclass(frozen=True, slots=True)
class Place:
    """Where an endpoint is reached."""

    host: str
    port: int
    prefix: str


@dataclass(frozen=True, slots=True)
class EndpointState:
    """Versions by number, the one that answers and the one before it, how many decisions there were, and its place."""

    versions: Mapping[int, Version] = field(default_factory=dict)
    current: Version | None = None
    previous: int | None = None
    generation: int = 0
    place: Place | None = None

    @property
    def routing(self) -> Routing | None:
        """What replicas have to serve; None before the first promotion."""
        if self.current is None:
            return None
        return Routing(self.generation, self.current.number, self.current.uri)

    def apply(self, event: Mapping[str, Any]) -> "EndpointState":
        """Returns the state after the event.

        Raises:
            EndpointError: for an event that this version does not know.
        """
        move = _MOVES.get(str(event.get("type")))
        if move is None:
            raise EndpointError(
                f"The endpoint's journal has an event {event.get('type')!r}; known are {', '.join(_MOVES)}. "
                "A newer version of this program wrote it: use that one."
            )
        return move(self, event)


def replay(batches: Iterable[Iterable[Mapping[str, Any]]]) -> EndpointState:
    """Returns the state after all events of a journal."""
    state = EndpointState()
    for batch in batches:
        for event in batch:
            state = state.apply(event)
    return state


def decide_promotion(state: EndpointState, offer: Offer, *, who: str, why: str, at: str) -> list[Event]:
    """Returns the events that make the offered bundle answer; none when it answers already.

    A bundle that answered before keeps its version's number.
    """
    if state.current is not None and state.current.digest == offer.digest:
        return []
    known = next((version for version in state.versions.values() if version.digest == offer.digest), None)
    number = known.number if known else max(state.versions, default=0) + 1
    version = Version(number, offer.uri, offer.digest, offer.lineage, who, why, at)
    return [{"type": "promoted", **version.to_dict()}]


def decide_rollback(state: EndpointState, version: int | None, *, who: str, why: str, at: str) -> list[Event]:
    """Returns the events that make an earlier version answer again; none when it answers already.

    Args:
        state: of the endpoint.
        version: its number; None for the one that answered before the present one.
        who: who decided it.
        why: for the history.
        at: when.

    Raises:
        EndpointError: there is no such version, or nothing to go back to.
    """
    number = state.previous if version is None else version
    known = ", ".join(map(str, state.versions)) or "none yet"
    if number is None:
        raise EndpointError(f"There is nothing to go back to; versions: {known}.")
    if number not in state.versions:
        raise EndpointError(f"There is no version {number}; versions: {known}.")
    if state.current is not None and state.current.number == number:
        return []
    return [{"type": "rolled_back", **replace(state.versions[number], who=who, why=why, at=at).to_dict()}]


def decide_place(state: EndpointState, place: Place, *, at: str) -> list[Event]:
    """Returns the events that record where the endpoint is reached; none when that is known."""
    if state.place == place:
        return []
    return [{"type": "placed", "host": place.host, "port": place.port, "prefix": place.prefix, "at": at}]


def _promoted(state: EndpointState, event: Mapping[str, Any]) -> EndpointState:
    version = Version.from_dict(event)
    versions = {**state.versions, version.number: version}
    previous = state.current.number if state.current else None
    return replace(state, versions=versions, current=version, previous=previous, generation=state.generation + 1)


def _placed(state: EndpointState, event: Mapping[str, Any]) -> EndpointState:
    return replace(state, place=Place(str(event["host"]), int(event["port"]), str(event["prefix"])))


_MOVES: Mapping[str, Callable[[EndpointState, Mapping[str, Any]], EndpointState]] = {
    "promoted": _promoted,
    "rolled_back": _promoted,
    "placed": _placed,
}

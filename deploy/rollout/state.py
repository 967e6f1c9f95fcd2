"""An endpoint's state: the fold over the events of its journal. Pure; `decisions` makes them, the actor acts.

Events, plain JSON: `promoted` (a version answers from now on: who decided it, why, when), `rolled_back` (an earlier
version answers again), `challenged` (a version begins its rollout), `advanced` (it takes the next step), `withdrawn`
(it is out), `frozen` and `unfrozen` (nothing changes by itself meanwhile), `placed` (where the endpoint is reached),
`joined` and `left` (another endpoint lives in its replicas from now on, or no more). A version is a bundle, by its
digest; versions count from 1 and are never reused.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from deploy.rollout.evidence import Evidence
from deploy.rollout.judge import Rollout
from deploy.rollout.versions import Contest, Place, Routing, Version
from orchestrator.domain.errors import EndpointError
from orchestrator.domain.rollout import RolloutPlan

Event = dict[str, Any]


@dataclass(frozen=True, slots=True)
class EndpointState:
    """Versions by number, the one that answers and the one before it, how many decisions there were, and its place.

    `rollout` is the challenger's, where there is one; `withdrawn` says why versions that challenged were taken out;
    `frozen` says why nothing may change by itself, and is empty where it may. `residents` are the other endpoints that
    live in its replicas, in the order in which they came; `moves` counts how often one came or left.
    """

    versions: Mapping[int, Version] = field(default_factory=dict)
    current: Version | None = None
    previous: int | None = None
    generation: int = 0
    place: Place | None = None
    rollout: Rollout | None = None
    withdrawn: Mapping[int, str] = field(default_factory=dict)
    frozen: str = ""
    residents: tuple[str, ...] = ()
    moves: int = 0

    @property
    def owner(self) -> str:
        """The endpoint in whose replicas it lives; empty for its own."""
        return "" if self.place is None else self.place.shares

    @property
    def routing(self) -> Routing | None:
        """What replicas have to serve; None before the first promotion."""
        if self.current is None:
            return None
        rollout, contest = self.rollout, None
        if rollout is not None:
            contest = Contest(rollout.number, rollout.version, rollout.uri, rollout.weight, rollout.slow_seconds)
        return Routing(self.generation, self.current.number, self.current.uri, contest)

    def of_digest(self, digest: str) -> Version | None:
        """Returns the version that is this bundle, or None."""
        return next((version for version in self.versions.values() if version.digest == digest), None)

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


def replay(batches: Iterable[Iterable[Mapping[str, Any]]], state: EndpointState | None = None) -> EndpointState:
    """Returns the state after the events of a journal, from a state before them on."""
    state = state or EndpointState()
    for batch in batches:
        for event in batch:
            state = state.apply(event)
    return state


def _promoted(state: EndpointState, event: Mapping[str, Any]) -> EndpointState:
    version = Version.from_dict(event)
    return replace(
        state,
        versions={**state.versions, version.number: version},
        current=version,
        previous=state.current.number if state.current else None,
        generation=state.generation + 1,
        rollout=None,
        withdrawn={number: why for number, why in state.withdrawn.items() if number != version.number},
    )


def _challenged(state: EndpointState, event: Mapping[str, Any]) -> EndpointState:
    version, generation = Version.from_dict(event), state.generation + 1
    plan, slow_seconds = RolloutPlan.from_dict(event["plan"]), float(event["slow_seconds"])
    return replace(
        state,
        versions={**state.versions, version.number: version},
        generation=generation,
        rollout=Rollout(generation, version.number, version.uri, plan, slow_seconds, version.at),
    )


def _advanced(state: EndpointState, event: Mapping[str, Any]) -> EndpointState:
    assert state.rollout is not None, "only a rollout advances"
    asked = Evidence.from_dict(event["evidence"]).challenger.asked
    rollout = replace(state.rollout, step=int(event["step"]), since=str(event["at"]), asked=asked)
    return replace(state, generation=state.generation + 1, rollout=rollout)


def _withdrawn(state: EndpointState, event: Mapping[str, Any]) -> EndpointState:
    withdrawn = {**state.withdrawn, int(event["version"]): str(event["why"])}
    return replace(state, generation=state.generation + 1, rollout=None, withdrawn=withdrawn)


def _frozen(state: EndpointState, event: Mapping[str, Any]) -> EndpointState:
    return replace(state, frozen=f"{event['why'] or 'no reason was given'} ({event['who']}, {event['at']})")


def _unfrozen(state: EndpointState, event: Mapping[str, Any]) -> EndpointState:
    return replace(state, frozen="")


def _placed(state: EndpointState, event: Mapping[str, Any]) -> EndpointState:
    grpc_port, tls = event.get("grpc_port"), event.get("tls")
    place = Place(
        str(event["host"]),
        int(event["port"]),
        str(event["prefix"]),
        None if grpc_port is None else int(grpc_port),
        None if tls is None else (str(tls[0]), str(tls[1])),
        str(event.get("shares", "")),
    )
    return replace(state, place=place)


def _joined(state: EndpointState, event: Mapping[str, Any]) -> EndpointState:
    left = _left(state, event)
    return replace(left, residents=(*left.residents, str(event["endpoint"])))


def _left(state: EndpointState, event: Mapping[str, Any]) -> EndpointState:
    others = tuple(name for name in state.residents if name != event["endpoint"])
    return replace(state, residents=others, moves=state.moves + 1)


_MOVES: Mapping[str, Callable[[EndpointState, Mapping[str, Any]], EndpointState]] = {
    "promoted": _promoted,
    "rolled_back": _promoted,
    "challenged": _challenged,
    "advanced": _advanced,
    "withdrawn": _withdrawn,
    "frozen": _frozen,
    "unfrozen": _unfrozen,
    "placed": _placed,
    "joined": _joined,
    "left": _left,
}
EVENTS = tuple(_MOVES)

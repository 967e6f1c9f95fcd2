"""What an endpoint does next. Pure: its state, an offer or a wish and the time in, events of its journal out.

At most one challenger is in a rollout. A better one that a study offers meanwhile waits: were the first one replaced by
it, a study that finds better models faster than a rollout lasts would never promote any. Somebody who promotes or rolls
back by hand ends the rollout.
"""

from dataclasses import replace

from deploy.rollout.evidence import Evidence
from deploy.rollout.judge import Action, Rollout, Verdict
from deploy.rollout.state import EndpointState, Event
from deploy.rollout.versions import Offer, Place, Version
from orchestrator.domain.errors import AnswersAlready, EndpointError, UnknownVersion
from orchestrator.domain.rollout import RolloutPlan


def decide_promotion(state: EndpointState, offer: Offer, *, who: str, why: str, at: str) -> list[Event]:
    """Returns the events that make the offered bundle answer; none when it answers already.

    A bundle that answered before keeps its version's number. A rollout ends.
    """
    if state.current is not None and state.current.digest == offer.digest:
        return _out_of_the_way(state, state.current.number, who=who, at=at)
    version = _version_of(state, offer, who=who, why=why, at=at)
    return [
        *_out_of_the_way(state, version.number, who=who, at=at),
        {"type": "promoted", **version.to_dict()},
    ]


def why_not_now(state: EndpointState, offer: Offer) -> tuple[str, str] | None:
    """Returns what keeps a bundle that a study offers from changing anything now, or None.

    A pair of a word and a reason: `withdrawn` (it was tried and is out for good), `rollout` (it is in its rollout) or
    `waiting` (another challenger is, or the endpoint is frozen).
    """
    known = state.of_digest(offer.digest)
    if known is not None and state.current is not None and known.number == state.current.number:
        return None
    if known is not None and known.number in state.withdrawn:
        return "withdrawn", state.withdrawn[known.number]
    if state.rollout is not None and known is not None and known.number == state.rollout.version:
        return "rollout", f"it is at {state.rollout.stage}"
    if state.rollout is not None:
        return "waiting", f"version {state.rollout.version} is at {state.rollout.stage}"
    return ("waiting", f"the endpoint is frozen: {state.frozen}") if state.frozen else None


def decide_challenge(
    state: EndpointState, offer: Offer, plan: RolloutPlan, slow_seconds: float, *, who: str, why: str, at: str
) -> list[Event]:
    """Returns the events that begin the rollout of the offered bundle; those that promote it where nothing answers yet.

    None for the one that answers already: a study that offers it again says nothing against the challenger.

    Args:
        state: of the endpoint; `why_not_now` has nothing against the offer.
        offer: the bundle.
        plan: of the rollout; without steps the bundle is promoted at once.
        slow_seconds: above which an answer is slow.
        who: who decided it.
        why: for the history.
        at: when.
    """
    if state.current is not None and state.current.digest == offer.digest:
        return []
    if state.current is None or not plan.steps:
        return decide_promotion(state, offer, who=who, why=why, at=at)
    version = _version_of(state, offer, who=who, why=why, at=at)
    return [{"type": "challenged", **version.to_dict(), "plan": plan.to_dict(), "slow_seconds": slow_seconds}]


def decide_verdict(state: EndpointState, verdict: Verdict, evidence: Evidence, *, at: str) -> list[Event]:
    """Returns the events that carry out a verdict about the rollout; none where it stays, or the endpoint is frozen."""
    rollout = state.rollout
    if rollout is None or verdict.action is Action.STAY or state.frozen:
        return []
    said = {"who": "rollout", "why": verdict.why, "at": at, "evidence": evidence.to_dict()}
    if verdict.action is Action.FINISH:
        return [{"type": "promoted", **state.versions[rollout.version].to_dict(), **said}]
    if verdict.action is Action.ADVANCE:
        return [{"type": "advanced", "version": rollout.version, "step": rollout.step + 1, **said}]
    return [{"type": "withdrawn", "version": rollout.version, **said}]


def decide_by_hand(state: EndpointState, number: int, *, who: str, why: str, at: str) -> list[Event]:
    """Returns the events that make a version answer all requests from now on, whatever it is; a rollout ends.

    Raises:
        UnknownVersion: there is no such version.
    """
    version = replace(_known(state, number), who=who, why=why, at=at)
    out = _out_of_the_way(state, number, who=who, at=at)
    if state.current is not None and state.current.number == number:
        return out
    return [*out, {"type": "promoted", **version.to_dict()}]


def decide_trial(
    state: EndpointState, number: int, plan: RolloutPlan, slow_seconds: float, *, who: str, why: str, at: str
) -> list[Event]:
    """Returns the events that begin a rollout of a version by hand, whatever became of it before.

    Another challenger is withdrawn; the rollout of that version itself begins anew.

    Args:
        state: of the endpoint.
        number: of the version.
        plan: of the rollout; it has steps.
        slow_seconds: above which an answer is slow.
        who: who decided it.
        why: for the history.
        at: when.

    Raises:
        UnknownVersion: there is no such version.
        AnswersAlready: it is the champion.
    """
    version = replace(_known(state, number), who=who, why=why, at=at)
    if state.current is not None and state.current.number == number:
        raise AnswersAlready(f"Version {number} answers all requests already, so there is nothing to try.")
    out = _out_of_the_way(state, number, who=who, at=at, how="tried in its place")
    return [*out, {"type": "challenged", **version.to_dict(), "plan": plan.to_dict(), "slow_seconds": slow_seconds}]


def decide_freeze(state: EndpointState, *, frozen: bool, who: str, why: str, at: str) -> list[Event]:
    """Returns the events after which nothing changes by itself any more, or again; none when that is so already."""
    if bool(state.frozen) == frozen:
        return []
    return [{"type": "frozen" if frozen else "unfrozen", "who": who, "why": why, "at": at}]


def decide_rollback(state: EndpointState, version: int | None, *, who: str, why: str, at: str) -> list[Event]:
    """Returns the events that make an earlier version answer again; none when it answers already.

    A rollout ends. Where no version is named and there is one, that is all that happens: its challenger is withdrawn.

    Args:
        state: of the endpoint.
        version: its number; None for the one that answered before the present one.
        who: who decided it.
        why: for the history.
        at: when.

    Raises:
        UnknownVersion: there is no such version, or nothing to go back to.
    """
    if version is None and state.rollout is not None:
        return [_withdrawal(state.rollout, who=who, why=why, at=at)]
    number = state.previous if version is None else version
    if number is None:
        raise UnknownVersion(f"There is nothing to go back to; versions: {_numbers(state)}.")
    earlier = replace(_known(state, number), who=who, why=why, at=at)
    out = [] if state.rollout is None else [_withdrawal(state.rollout, who=who, why=why, at=at)]
    if state.current is not None and state.current.number == number:
        return out
    return [*out, {"type": "rolled_back", **earlier.to_dict()}]


def decide_place(state: EndpointState, place: Place, *, at: str) -> list[Event]:
    """Returns the events that record where the endpoint is reached; none when that is known."""
    if state.place == place:
        return []
    grpc = {} if place.grpc_port is None else {"grpc_port": place.grpc_port}
    tls = {} if place.tls is None else {"tls": list(place.tls)}
    shares = {"shares": place.shares} if place.shares else {}
    where = {"host": place.host, "port": place.port, "prefix": place.prefix}
    return [{"type": "placed", **where, **grpc, **tls, **shares, "at": at}]


def decide_resident(state: EndpointState, endpoint: str, *, lives_here: bool, at: str) -> list[Event]:
    """Returns the events by which another endpoint comes into this one's replicas, or leaves them; none when it is so.

    Raises:
        EndpointError: this endpoint lives in another one's replicas itself.
    """
    if lives_here and state.owner:
        raise EndpointError(
            f"The endpoint whose replicas '{endpoint}' is to share lives in those of '{state.owner}' itself. "
            "Share that one's."
        )
    if lives_here == (endpoint in state.residents):
        return []
    return [{"type": "joined" if lives_here else "left", "endpoint": endpoint, "at": at}]


def _version_of(state: EndpointState, offer: Offer, *, who: str, why: str, at: str) -> Version:
    known = state.of_digest(offer.digest)
    number = known.number if known else max(state.versions, default=0) + 1
    return Version(number, offer.uri, offer.digest, offer.lineage, who, why, at)


def _known(state: EndpointState, number: int) -> Version:
    if number not in state.versions:
        raise UnknownVersion(f"There is no version {number}; versions: {_numbers(state)}.")
    return state.versions[number]


def _numbers(state: EndpointState) -> str:
    return ", ".join(map(str, state.versions)) or "none yet"


def _out_of_the_way(
    state: EndpointState, number: int, *, who: str, at: str, how: str = "promoted over it"
) -> list[Event]:
    """Returns the withdrawal of the challenger that is in its rollout, where it is not that version itself."""
    if state.rollout is None or state.rollout.version == number:
        return []
    return [_withdrawal(state.rollout, who=who, why=f"version {number} was {how}", at=at)]


def _withdrawal(rollout: Rollout, *, who: str, why: str, at: str) -> Event:
    return {"type": "withdrawn", "version": rollout.version, "who": who, "why": why, "at": at}

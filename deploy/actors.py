"""The endpoint actor: the one writer of an endpoint.

A detached Ray actor without CPUs that Ray restarts when it dies: it replays the journal and goes on. An endpoint
outlives studies and may be fed by several, so its versions, decisions and place are its own.
"""

import logging
import os
import threading
import time
from datetime import UTC, datetime
from typing import Any

from deploy.answering.black_box import box_folder
from deploy.bundle import Profile
from deploy.checking import BundleChecks, require_alike
from deploy.copies import open_bundle
from deploy.monitoring.drift import Count, DriftBook
from deploy.replies import Replies
from deploy.rollout.decisions import (
    decide_by_hand,
    decide_challenge,
    decide_freeze,
    decide_place,
    decide_promotion,
    decide_resident,
    decide_rollback,
    decide_trial,
    decide_verdict,
    why_not_now,
)
from deploy.rollout.evidence import Evidence, Judgement
from deploy.rollout.evidence_file import EvidenceFile
from deploy.rollout.judge import judge, slow_limit
from deploy.rollout.ledger import Ledger
from deploy.rollout.state import EndpointState, Event
from deploy.rollout.versions import Place, Routing, Version
from orchestrator.domain.errors import EndpointError
from orchestrator.domain.rollout import RolloutPlan

logger = logging.getLogger(__name__)

NAMESPACE = "orchestrator"


def actor_name(name: str) -> str:
    """Returns the name under which an endpoint's actor is found."""
    return f"endpoint:{name}"


class EndpointActor:
    """Decides, records, tells the replicas.

    Its methods run in Ray's threads; `_writing` keeps one decision at a time, the ledger's state is swapped as a whole.
    """

    def __init__(self, name: str, storage: str) -> None:
        self._name = name
        self._storage = storage
        self._ledger: Ledger | None = None
        self._evidence = EvidenceFile(storage, name)
        self._drift = DriftBook()
        self._checks = BundleChecks(box_folder(storage, name))
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._replicas = Replies(name)  # known for certain when the ledger is open
        self._profile: tuple[str, Profile | None] | None = None  # of the bundle with that digest

    def promote(self, bundle_uri: str, lineage: dict[str, Any] | None, who: str, why: str) -> dict[str, Any]:
        """Makes the bundle answer, and returns when all running replicas do so.

        The bundle is opened, checked and run here first: one that cannot answer is never recorded. Asked again for
        the bundle that answers, it changes nothing and tells the replicas again.

        Returns:
            version, generation, changed, `seconds` from this call to the last replica's word, `verify_seconds` of
            them for the bundle, the replicas' reports, and errors of replicas that could not follow.

        Raises:
            BundleError: when the bundle is damaged, cannot answer, or is not of the lineage that was given.
        """
        start = time.perf_counter()
        ledger = self._open()
        offer = self._checks.offer(bundle_uri, lineage)
        verified = time.perf_counter()
        with self._writing:
            events = decide_promotion(ledger.state, offer, who=who, why=why, at=_now())
            return self._enforce(ledger, events, start, verified)

    def offer(self, bundle_uri: str, plan: dict[str, Any], who: str, why: str) -> dict[str, Any]:
        """Takes a bundle that a study offers, and begins its rollout by the plan, or promotes it where that says so.

        Returns:
            version (None where it has none), `state`: `full` (it answers all requests), `rollout`, `waiting` (another
            challenger is in its rollout, or the endpoint is frozen) or `withdrawn`, and `reason`; what `promote`
            returns where something changed.

        Raises:
            BundleError: when the bundle is damaged, cannot answer, or does not take and give what the champion does,
                so that clients could not be shared between them.
        """
        start = time.perf_counter()
        ledger, wanted = self._open(), RolloutPlan.from_dict(plan)
        offer = self._checks.offer(bundle_uri, None)
        verified = time.perf_counter()
        with self._writing:
            state = ledger.state
            against = why_not_now(state, offer)
            if against is not None:
                known = state.of_digest(offer.digest)
                version = None if known is None else known.number
                return {"version": version, "state": against[0], "reason": against[1], "changed": False}
            if wanted.steps and state.current is not None:
                require_alike(state.current.uri, state.current.number, bundle_uri)
            slow_seconds = slow_limit(wanted, self._usual_seconds() if wanted.steps else None)
            events = decide_challenge(state, offer, wanted, slow_seconds, who=who, why=why, at=_now())
            done = self._enforce(ledger, events, start, verified)
            taken = ledger.state.of_digest(offer.digest)
            assert taken is not None, "an offer that was taken is a version"
            return done | self._standing(ledger.state, taken)

    def standing(self, version: int) -> dict[str, Any]:
        """Returns where a version stands: `version`, `state` as `offer` has it, `reason`, and how often it was asked.

        The state of one that answered once and does not any more is `former`.
        """
        state = self._open().state
        if version not in state.versions:
            return {"version": None, "state": "unknown", "reason": "there is no such version", "asked": 0}
        return self._standing(state, state.versions[version])

    def _standing(self, state: EndpointState, known: Version) -> dict[str, Any]:
        said: dict[str, Any] = {"version": known.number, "reason": "", "asked": 0}
        if state.rollout is not None and state.rollout.version == known.number:
            asked = self._evidence.book.of(state.rollout.number).challenger.asked
            return said | {"state": "rollout", "reason": f"it is at {state.rollout.stage}", "asked": asked}
        if known.number in state.withdrawn:
            return said | {"state": "withdrawn", "reason": state.withdrawn[known.number]}
        return said | {"state": "full" if state.current and state.current.number == known.number else "former"}

    def observe(
        self,
        replica: str,
        rollout: int,
        evidence: dict[str, Any] | None,
        labels: list[list[Any]],
        deaths: list[list[Any]],
    ) -> None:
        """Takes what a replica saw of a rollout; decides about the challenger, and tells the replicas.

        Args:
            replica: a name of its process.
            rollout: the number of the rollout that it counted in; 0 for none.
            evidence: all that it counted since that began.
            labels: the fields of a `Judgement` each.
            deaths: the fields of a `Death` each, that it found on its host.
        """
        ledger = self._open()
        with self._writing:
            state, book = ledger.state, self._evidence.book
            if state.rollout is not None:
                book.begin(state.rollout.number)
            if evidence is not None:
                book.take(replica, rollout, Evidence.from_dict(evidence))
            for box, of_rollout in deaths:
                book.mourn(str(box), int(of_rollout))
            challenger = 0 if state.rollout is None else state.rollout.version
            for label in labels:
                book.judge(Judgement(*label), challenger)
            events: list[Event] = []
            if state.rollout is not None:
                now, found = _now(), book.of(state.rollout.number)
                events = decide_verdict(state, judge(state.rollout, found, now), found, at=now)
            self._evidence.save(at_once=bool(events))
            if events:
                self._enforce(ledger, events, time.perf_counter(), time.perf_counter())

    def watch(self, replica: str, count: list[Any]) -> None:
        """Takes what a replica counted of the champion's requests: the fields of a `Count`."""
        version, rows, columns, prediction = count
        self._drift.take(replica, Count(int(version), int(rows), tuple(columns), tuple(prediction)))

    def drift(self) -> dict[str, Any]:
        """Returns how far the champion's requests are from its training data: its version, and a `Drift` as plain data.

        Raises:
            EndpointError: nothing answers, or the champion's bundle does not say what its data looked like.
        """
        current = self._open().state.current
        if current is None:
            raise EndpointError(f"The endpoint '{self._name}' has no model yet, so there is nothing to compare.")
        if self._profile is None or self._profile[0] != current.digest:
            self._profile = current.digest, open_bundle(current.uri).profile
        profile = self._profile[1]
        if profile is None:
            raise EndpointError(
                f"The bundle of version {current.number} does not say what its data looked like, as those made by an "
                "earlier version or by an export of one's own. Export with `trainables.publish`, and promote that."
            )
        return {"version": current.number, **self._drift.of(current.number, profile).to_dict()}

    def promote_version(self, version: int, who: str, why: str, origin: str = "") -> dict[str, Any]:
        """Makes a version answer all requests, by hand: the challenger, an earlier one, or one that was withdrawn.

        `origin` is the address that the decision came from, where it came over HTTP. Returns what `promote` does.

        Raises:
            UnknownVersion: there is no such version.
            BundleError: its bundle is gone or damaged; what answers now goes on answering.
        """
        start = time.perf_counter()
        ledger = self._open()
        with self._writing:
            events = decide_by_hand(ledger.state, version, who=who, why=why, at=_now())
            return self._enforce_checked(ledger, _from(origin, events), start)

    def try_version(self, version: int, plan: dict[str, Any], who: str, why: str, origin: str = "") -> dict[str, Any]:
        """Begins a rollout of a version by hand: an earlier one, or one that was withdrawn.

        Returns what `promote` does; `version` in it is the champion's.

        Raises:
            UnknownVersion: there is no such version.
            EndpointError: it answers already.
            BundleError: its bundle is gone or damaged, or takes or gives other things than the champion's.
        """
        start = time.perf_counter()
        ledger, wanted = self._open(), RolloutPlan.from_dict(plan)
        with self._writing:
            state = ledger.state
            slow_seconds = slow_limit(wanted, self._usual_seconds())
            events = decide_trial(state, version, wanted, slow_seconds, who=who, why=why, at=_now())
            if state.current is not None:
                require_alike(state.current.uri, state.current.number, state.versions[version].uri)
            return self._enforce_checked(ledger, _from(origin, events), start)

    def freeze(self, frozen: bool, who: str, why: str, origin: str = "") -> bool:
        """Lets nothing change by itself from now on, or again; returns whether that is new."""
        ledger = self._open()
        with self._writing:
            events = decide_freeze(ledger.state, frozen=frozen, who=who, why=why, at=_now())
            return ledger.record(_from(origin, events))

    def _usual_seconds(self) -> float | None:
        """Returns what nine of ten of the champion's answers take, at the slowest replica."""
        reports, _ = self._replicas.ask("report")
        return max((report["usual_seconds"] for report in reports if report.get("usual_seconds")), default=None)

    def _enforce_checked(self, ledger: Ledger, events: list[Event], start: float) -> dict[str, Any]:
        """Records a decision for a version that has to be there still, and brings it to the replicas."""
        for event in events:
            if "uri" in event:
                self._checks.offer(event["uri"], event["lineage"])
        return self._enforce(ledger, events, start, time.perf_counter())

    def _enforce(self, ledger: Ledger, events: list[Event], start: float, verified: float) -> dict[str, Any]:
        """Records a decision and brings it to the replicas."""
        changed = ledger.record(events)
        routing = ledger.state.routing
        assert routing is not None, "a decision leaves a version that answers"
        replicas, errors = self._replicas.tell("swap", routing.to_dict())
        return {
            "version": routing.version,
            "generation": routing.generation,
            "changed": changed,
            "events": [str(event["type"]) for event in events],
            "seconds": time.perf_counter() - start,
            "verify_seconds": verified - start,
            "replicas": replicas,
            "errors": errors,
        }

    def rollback(self, version: int | None, who: str, why: str, origin: str = "") -> dict[str, Any]:
        """Makes an earlier version answer again (None: the one before the present one); returns what `promote` does.

        In a rollout, without a version, the challenger is withdrawn and nothing else happens.

        Raises:
            UnknownVersion: there is no such version.
            BundleError: its bundle is gone or damaged; what answers now goes on answering.
        """
        start = time.perf_counter()
        ledger = self._open()
        with self._writing:
            events = decide_rollback(ledger.state, version, who=who, why=why, at=_now())
            return self._enforce_checked(ledger, _from(origin, events), start)

    def place(
        self,
        host: str,
        port: int,
        prefix: str,
        grpc_port: int | None = None,
        tls: tuple[str, str] | None = None,
        shares: str = "",
    ) -> None:
        """Records where the endpoint is reached, and in whose replicas it lives (empty: in its own)."""
        ledger = self._open()
        with self._writing:
            ledger.record(decide_place(ledger.state, Place(host, port, prefix, grpc_port, tls, shares), at=_now()))
            self._replicas = Replies(self._name, shares)  # whoever places an endpoint may have deployed it anew

    def house(self, endpoint: str, lives_here: bool) -> dict[str, Any]:
        """Has another endpoint live in this one's replicas, or no more; returns their reports, and what went wrong.

        Raises:
            EndpointError: this endpoint lives in another one's replicas itself.
        """
        ledger = self._open()
        with self._writing:
            ledger.record(decide_resident(ledger.state, endpoint, lives_here=lives_here, at=_now()))
            replicas, errors = self._replicas.tell("settle", ledger.state.moves, list(ledger.state.residents))
        return {"replicas": replicas, "errors": errors}

    def routing(self) -> dict[str, Any] | None:
        """Returns the routing that replicas have to follow; None before the first promotion."""
        routing: Routing | None = self._open().state.routing
        return None if routing is None else routing.to_dict()

    def status(self) -> dict[str, Any]:
        """Returns versions, the one that answers, the place, and each running replica's report."""
        state, book = self._open().state, self._evidence.book
        replicas, errors = self._replicas.ask("report")
        rollout = state.rollout
        return {
            "name": self._name,
            "storage": self._storage,
            "pid": os.getpid(),
            "version": state.current.number if state.current else None,
            "generation": state.generation,
            "current": state.current.to_dict() if state.current else None,
            "versions": [version.to_dict() for version in state.versions.values()],
            "rollout": rollout and rollout.to_dict() | {"evidence": book.of(rollout.number).to_dict()},
            "withdrawn": dict(state.withdrawn),
            "frozen": state.frozen,
            "labels": {version: list(counts) for version, counts in book.versions.items()},
            "place": None if state.place is None else [state.place.host, state.place.port, state.place.prefix],
            "shares": state.owner,
            "residents": list(state.residents),
            "replicas": replicas,
            "errors": errors,
        }

    def owner(self) -> str:
        """Returns the endpoint in whose replicas this one lives; empty for its own."""
        return self._open().state.owner

    def readings(self) -> list[dict[str, Any]]:
        """Returns the numbers of each running replica, as plain data."""
        return self._replicas.ask("reading")[0]

    def _open(self) -> Ledger:
        """Returns the ledger, opened at the first call: an error then reaches who called, which one of a constructor
        would not."""
        with self._opening:
            if self._ledger is None:
                self._ledger = Ledger(self._storage, self._name)
                self._replicas = Replies(self._name, self._ledger.state.owner)
            return self._ledger


def _from(origin: str, events: list[Event]) -> list[Event]:
    """Returns the events with the address that they came from, where that is known."""
    return [event | {"origin": origin} for event in events] if origin else events


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

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

from ray import serve
from ray.exceptions import RayActorError
from ray.serve.exceptions import DeploymentUnavailableError, RayServeException

from deploy.bundle import Lineage
from deploy.copies import open_bundle
from deploy.decisions import decide_place, decide_promotion, decide_rollback
from deploy.endpoint import Event
from deploy.ledger import Ledger
from deploy.versions import Offer, Place, Routing
from orchestrator.domain.errors import BundleError

logger = logging.getLogger(__name__)

NAMESPACE = "orchestrator"
DEPLOYMENT = "replica"
BROADCAST_SECONDS = 10.0  # a swap takes milliseconds; a replica that needs longer follows the journal by itself


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
        self._opening = threading.Lock()
        self._writing = threading.Lock()
        self._handle: Any = None

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
        offer = _check_bundle(bundle_uri, lineage)
        verified = time.perf_counter()
        with self._writing:
            events = decide_promotion(ledger.state, offer, who=who, why=why, at=_now())
            return self._enforce(ledger, events, start, verified)

    def _enforce(self, ledger: Ledger, events: list[Event], start: float, verified: float) -> dict[str, Any]:
        """Records a decision and brings it to the replicas."""
        changed = ledger.record(events)
        routing = ledger.state.routing
        assert routing is not None, "a decision leaves a version that answers"
        replicas, errors = self._broadcast("swap", routing.to_dict())
        return {
            "version": routing.version,
            "generation": routing.generation,
            "changed": changed,
            "seconds": time.perf_counter() - start,
            "verify_seconds": verified - start,
            "replicas": replicas,
            "errors": errors,
        }

    def rollback(self, version: int | None, who: str, why: str) -> dict[str, Any]:
        """Makes an earlier version answer again (None: the one before the present one); returns what `promote` does.

        Raises:
            EndpointError: there is no such version.
            BundleError: its bundle is gone or damaged; what answers now goes on answering.
        """
        start = time.perf_counter()
        ledger = self._open()
        with self._writing:
            events = decide_rollback(ledger.state, version, who=who, why=why, at=_now())
            for event in events:
                _check_bundle(event["uri"], event["lineage"])
            return self._enforce(ledger, events, start, time.perf_counter())

    def place(self, host: str, port: int, prefix: str) -> None:
        """Records where the endpoint is reached."""
        ledger = self._open()
        with self._writing:
            self._handle = None  # whoever places an endpoint may have deployed it anew
            ledger.record(decide_place(ledger.state, Place(host, port, prefix), at=_now()))

    def routing(self) -> dict[str, Any] | None:
        """Returns the routing that replicas have to follow; None before the first promotion."""
        routing: Routing | None = self._open().state.routing
        return None if routing is None else routing.to_dict()

    def status(self) -> dict[str, Any]:
        """Returns versions, the one that answers, the place, and each running replica's report."""
        state = self._open().state
        replicas, errors = self._broadcast("report")
        return {
            "name": self._name,
            "storage": self._storage,
            "pid": os.getpid(),
            "version": state.current.number if state.current else None,
            "generation": state.generation,
            "current": state.current.to_dict() if state.current else None,
            "versions": [version.to_dict() for version in state.versions.values()],
            "place": None if state.place is None else [state.place.host, state.place.port, state.place.prefix],
            "replicas": replicas,
            "errors": errors,
        }

    def _open(self) -> Ledger:
        """Returns the ledger, opened at the first call: an error then reaches who called, which one of a constructor
        would not."""
        with self._opening:
            if self._ledger is None:
                self._ledger = Ledger(self._storage, self._name)
            return self._ledger

    def _broadcast(self, method: str, *given: Any) -> tuple[list[dict[str, Any]], list[str]]:
        """Returns each running replica's answer, and what went wrong; a replica that died is neither."""
        try:
            handle = self._handle or serve.get_deployment_handle(DEPLOYMENT, app_name=self._name)
            self._handle = handle
            answers = handle.broadcast(method, *given).results(timeout_s=BROADCAST_SECONDS, return_exceptions=True)
        except (DeploymentUnavailableError, RayServeException, KeyError):
            return [], []  # nothing is deployed, or nothing runs yet; replicas that start later read the journal
        except TimeoutError as error:
            return [], [str(error)]
        failed = [answer for answer in answers if isinstance(answer, Exception)]
        errors = [str(error) for error in failed if not isinstance(error, RayActorError)]
        return [answer for answer in answers if isinstance(answer, dict)], errors


def _check_bundle(uri: str, lineage: dict[str, Any] | None) -> Offer:
    bundle = open_bundle(uri)
    bundle.warm_up()
    wanted = bundle.lineage if lineage is None else Lineage.from_dict(lineage)
    if _origin(wanted) != _origin(bundle.lineage):
        raise BundleError(
            f"The bundle {uri} is of (study, trial, step) {_origin(bundle.lineage)}, not of {_origin(wanted)} as was "
            "said. Promote it with its own lineage."
        )
    return Offer(bundle.uri, bundle.digest, bundle.lineage)


def _origin(lineage: Lineage) -> tuple[str, int, int]:
    return lineage.study, lineage.trial, lineage.step


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")

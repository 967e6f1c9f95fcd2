"""One copy of an application: a Serve replica that holds an endpoint, and the others that share its replicas.

Who else lives here stands in the journal of the endpoint that has the replica: others come and go while it answers.
What befalls one of them (a bundle that is gone, a journal that is damaged) is in that one's report and troubles no
other; only a model that ends the process takes all of them along, until Serve has started another one.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from typing import Any

from deploy.answering.grpc_service import GrpcService
from deploy.answering.shared_app import SharedApp
from deploy.ingress.grpc_door import close_replica
from deploy.resident import Means, Resident
from deploy.rollout.state import EndpointState
from deploy.rollout.versions import Routing
from deploy.scaling import BUSY, RATE
from orchestrator.domain.errors import EndpointError, OrchestratorError

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0  # before one that could not come in is tried again


class EndpointReplica(GrpcService):
    """The deployment's class. Who lives here is changed under `_settling`.

    `is_private`: only this host may call it over gRPC. `on_gpu`: it has one, or a part of one, for its models.
    """

    def __init__(
        self,
        name: str,
        storage: str,
        is_private: bool = True,
        threads: int = 1,
        on_gpu: bool = False,
        latency_seconds: float | None = None,
    ) -> None:
        close_replica(is_private)
        self._storage, self._means = storage, Means(threads, on_gpu, latency_seconds)
        self._is_private = is_private
        self._rated: tuple[float, int, float] | None = None
        self._settling = threading.Lock()
        self._residents: dict[str, Resident] = {}
        self._again_at: dict[str, float] = {}  # by those that could not come in
        self._wanting, self._unsettled = threading.Lock(), threading.Event()
        self._wanted: tuple[int, tuple[str, ...]] = (0, ())  # the latest of what was heard, by how many moves it knows
        self._own = Resident(name, storage, self._means, follow=self._hear)
        self._app = SharedApp(self._own.app)
        self._settle()
        threading.Thread(target=self._settle_for_ever, name="settle", daemon=True).start()

    def __serve_build_asgi_app__(self) -> SharedApp:
        """Returns the application that requests go to; Serve asks for it once, after the constructor."""
        return self._app

    async def swap(self, endpoint: str, routing: dict[str, Any]) -> dict[str, Any]:
        """Serves what `routing` says of an endpoint and returns its report.

        Raises:
            BundleError: when the bundle cannot be served; the model before goes on answering.
            EndpointError: the endpoint does not live here.
        """
        resident = self._resident(endpoint)
        await asyncio.to_thread(resident.adopt, Routing.from_dict(routing))
        return resident.report()

    def report(self, endpoint: str) -> dict[str, Any]:
        """Returns who this replica is, what it serves of an endpoint, and how many requests ended in which way."""
        return self._resident(endpoint).report()

    def reading(self, endpoint: str) -> dict[str, Any]:
        """Returns an endpoint's numbers in this replica, as plain data."""
        return self._resident(endpoint).reading().to_dict()

    async def settle(self, endpoint: str, moves: int, residents: Iterable[str]) -> dict[str, Any]:
        """Has exactly these others live here and returns the report of `endpoint`, which has the replica.

        Those that could not come in yet are tried again. `moves` orders what is said here and what the journal says.
        """
        self._want(moves, tuple(residents))
        await asyncio.to_thread(self._settle)
        return self.report(endpoint)

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Returns the rate at which this replica answered since it was last asked, and the share of that time in which
        this thread, which is the event loop's, computed; Serve gives both to the policy."""
        whole = sum(app.counts.answered for app in self._app.apps.values())
        now = time.monotonic(), whole, time.thread_time()
        seconds, answered, computed = (new - old for new, old in zip(now, self._rated or now, strict=True))
        self._rated = now
        answered = max(0, answered)  # what somebody who left had answered is not in the sum any more
        return {RATE: answered / max(seconds, 1e-3), BUSY: min(1.0, computed / max(seconds, 1e-3))}

    def check_health(self) -> None:
        """Serve's health check: each model has to answer one of its own rows."""
        for resident in (self._own, *self._residents.values()):
            resident.check()

    def _resident(self, endpoint: str) -> Resident:
        if endpoint == self._own.name:
            return self._own
        resident = self._residents.get(endpoint)
        if resident is None:
            raise EndpointError(f"The endpoint '{endpoint}' is not in this replica of '{self._own.name}' (yet).")
        return resident

    def _hear(self, state: EndpointState) -> None:
        self._want(state.moves, state.residents)

    def _want(self, moves: int, residents: tuple[str, ...]) -> None:
        with self._wanting:
            self._wanted = max(self._wanted, (moves, residents))
        if not self._is_settled():
            self._unsettled.set()

    def _is_settled(self) -> bool:
        return self._wanted[1] == tuple(self._residents)

    def _settle_for_ever(self) -> None:
        while True:
            self._unsettled.wait(None if self._is_settled() else RETRY_SECONDS)
            self._unsettled.clear()
            if not self._is_settled():
                self._settle()

    def _settle(self) -> None:
        """Lets in who is to live here, and out who is not."""
        with self._settling:
            kept = {name: self._residents.get(name) or self._come_in(name) for name in self._wanted[1]}
            residents = {name: resident for name, resident in kept.items() if resident is not None}
            gone = [resident for name, resident in self._residents.items() if name not in residents]
            self._app.put({name: resident.app for name, resident in residents.items()})
            self._residents = residents  # only who is answered for is reported: others wait for that word
        for resident in gone:
            resident.end()

    def _come_in(self, name: str) -> Resident | None:
        """Returns the endpoint, now that it lives here; None where it cannot, for now."""
        if time.monotonic() < self._again_at.get(name, 0.0):
            return None
        try:
            return Resident(name, self._storage, self._means)
        except (OrchestratorError, OSError) as error:
            logger.warning("The endpoint '%s' cannot come into this replica: %s", name, error)
            self._again_at[name] = time.monotonic() + RETRY_SECONDS
            return None

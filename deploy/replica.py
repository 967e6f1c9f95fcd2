"""One copy of the endpoint: a Serve replica that answers from one model and changes it in place.

A new model is opened, checked and warmed up beside the old one, in a thread, while the old one answers; then one
reference changes. When that fails, the old model goes on answering and the replica says why.
"""

import asyncio
import logging
import os
import secrets
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray

from deploy.access.denials import write_for_ever
from deploy.access.key_following import KeyFollower
from deploy.access.tokens import token_of
from deploy.admin import AdminDesk
from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.black_box import BlackBox, box_folder
from deploy.answering.call_cost import CallCost, measure_cost
from deploy.answering.grpc_service import GrpcService
from deploy.answering.served import Contender, ModelSlot, Served
from deploy.answering.tally import Tally
from deploy.bundle import Bundle
from deploy.copies import open_bundle
from deploy.following import (
    FOLLOW_SECONDS,
    STORE_FOLLOW_SECONDS,
    STORE_YOUNG_FOLLOW_SECONDS,
    YOUNG_SECONDS,
    JournalFollower,
)
from deploy.ingress.grpc_door import close_replica
from deploy.monitoring.metrics import Reading, Standing
from deploy.monitoring.ray_metrics import export_for_ever
from deploy.places import journal_directory
from deploy.reporting import Reporter
from deploy.rollout.versions import Contest, Routing
from deploy.scaling import BUSY, RATE
from orchestrator.domain.errors import OrchestratorError

logger = logging.getLogger(__name__)


class EndpointReplica(GrpcService):
    """The deployment's class. Its slot is written under `_changing`, by a swap or by the thread that follows.

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
        self._threads, self._on_gpu = threads, on_gpu
        self._identity, self._started = secrets.token_hex(4), time.time()
        self._slot = ModelSlot()
        self._changing = threading.Lock()
        self._follower = JournalFollower(journal_directory(storage, name))
        self._fault = ""
        self._settings = AppSettings(
            name, token_of(storage, name), latency_seconds=latency_seconds, program_version=_program_version()
        )
        keys = KeyFollower(storage, name)
        self._app = EndpointApp(self._settings, self._slot, keys.keyring, AdminDesk(storage, name, self._read))
        self._is_private = is_private
        self._rated: tuple[float, int, float] | None = None
        self._box = _box(boxes := box_folder(storage, name))
        reporter = Reporter(name, self._slot, self._app.feedback, self._app.arms.traffic, boxes)
        reporter.report()  # before it takes a challenger that killed the replica before it
        self._catch_up()
        threading.Thread(target=self._follow, name="follow-journal", daemon=True).start()
        threading.Thread(target=keys.follow_for_ever, name="follow-tokens", daemon=True).start()
        if ray.is_initialized():  # telling Ray numbers would start a cluster of its own
            exporting = (name, self._read)
            threading.Thread(target=export_for_ever, args=exporting, name="export-numbers", daemon=True).start()
        writing = (storage, name, self._app.denials)
        threading.Thread(target=write_for_ever, args=writing, name="audit", daemon=True).start()
        threading.Thread(target=reporter.report_for_ever, name="report", daemon=True).start()

    def __serve_build_asgi_app__(self) -> EndpointApp:
        """Returns the application that requests go to; Serve asks for it once, after the constructor."""
        return self._app

    async def swap(self, routing: dict[str, Any]) -> dict[str, Any]:
        """Serves what `routing` says and returns this replica's report.

        Raises:
            BundleError: when the bundle cannot be served; the model before goes on answering.
        """
        await asyncio.to_thread(self._adopt, Routing.from_dict(routing))
        return self.report()

    def report(self) -> dict[str, Any]:
        """Returns who this replica is, what it serves, and how many requests ended in which way."""
        served, counts = self._slot.served, self._app.counts
        return {
            "pid": os.getpid(),
            "version": served.version if served else None,
            "generation": served.generation if served else 0,
            "answered": counts.answered,
            "refused": counts.refused,
            "failed": counts.failed,
            "fault": self._fault,
            "usual_seconds": self._app.arms.usual_seconds,
            "contender": None if served is None or served.contender is None else served.contender.served.version,
            "weight": None if served is None or served.contender is None else served.contender.weight,
        }

    def reading(self) -> dict[str, Any]:
        """Returns this replica's numbers, as plain data."""
        return self._read().to_dict()

    def _read(self) -> Reading:
        served = self._slot.served
        standing = Standing(self._identity, os.getpid(), self._started)
        if served is not None:
            lineage, contender = served.bundle.lineage, served.contender
            standing = replace(
                standing,
                version=served.version,
                study=lineage.study,
                trial=lineage.trial,
                generation=served.generation,
                contender=None if contender is None else contender.served.version,
                weight=None if contender is None else contender.weight,
            )
        return Reading(standing, self._app.meter.reading())

    async def record_autoscaling_stats(self) -> dict[str, float]:
        """Returns the rate at which this replica answered since it was last asked, and the share of that time in which
        this thread, which is the event loop's, computed; Serve gives both to the policy."""
        now = time.monotonic(), self._app.counts.answered, time.thread_time()
        seconds, answered, computed = (new - old for new, old in zip(now, self._rated or now, strict=True))
        self._rated = now
        return {RATE: answered / max(seconds, 1e-3), BUSY: min(1.0, computed / max(seconds, 1e-3))}

    def check_health(self) -> None:
        """Serve's health check: the model has to answer one of its own rows."""
        served = self._slot.served
        if served is not None:
            served.bundle.predict(served.bundle.sample[:1])

    def _follow(self) -> None:
        born = time.monotonic()
        young = grown = FOLLOW_SECONDS
        if not self._follower.is_local:
            young, grown = STORE_YOUNG_FOLLOW_SECONDS, STORE_FOLLOW_SECONDS
        while True:
            time.sleep(young if time.monotonic() - born < YOUNG_SECONDS else grown)
            self._catch_up()

    def _catch_up(self) -> None:
        """Serves what the journal says; what goes wrong is kept for the report and tried again."""
        try:
            routing = self._follower.routing()
            if routing is not None:
                self._adopt(routing)
        except (OrchestratorError, OSError) as error:
            if self._fault != str(error):
                logger.warning("This replica cannot follow its journal: %s", error)
            self._fault = str(error)

    def _adopt(self, routing: Routing) -> None:
        with self._changing:
            served = self._slot.served
            if served is not None and served.generation >= routing.generation:
                return
            bundle, cost = self._loaded(served, routing.version, routing.uri)
            contender = (
                None if routing.contest is None else self._contender(served, routing.contest, routing.generation)
            )
            self._slot.put(Served(bundle, routing.version, routing.generation, contender, cost))
            self._fault = ""

    def _contender(self, served: Served | None, contest: Contest, generation: int) -> Contender:
        """Returns the challenger that is to answer its share; what was counted in its rollout goes on."""
        before = None if served is None else served.contender
        goes_on = before is not None and before.number == contest.number
        tally = before.tally if before is not None and goes_on else Tally(contest.slow_seconds)
        with nullcontext() if self._box is None else self._box.computing(contest.number):
            bundle, cost = self._loaded(served, contest.version, contest.uri)
        challenger = Served(bundle, contest.version, generation, cost=cost)
        return Contender(challenger, contest.number, contest.weight, tally, self._box)

    def _loaded(self, served: Served | None, version: int, uri: str) -> tuple[Bundle, CallCost | None]:
        """Returns a bundle, warmed up, and its cost; the one that this replica holds, as champion or challenger."""
        held = [] if served is None else [served, *([served.contender.served] if served.contender else [])]
        known = next((one for one in held if (one.version, one.bundle.uri) == (version, uri)), None)
        if known is not None:
            return known.bundle, known.cost
        bundle = open_bundle(uri, threads=self._threads, on_gpu=self._on_gpu)
        bundle.warm_up()
        return bundle, measure_cost(bundle)


def _box(folder: Path) -> BlackBox | None:
    try:
        return BlackBox(folder)
    except OSError as error:
        logger.warning("Should a challenger end this replica's process, nobody will know: %s", error)
        return None


def _program_version() -> str:
    try:
        return version("orchestrator")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"

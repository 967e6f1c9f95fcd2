"""One endpoint in a replica: its application, its model, and the threads that keep both as the storage says.

A new model is opened, checked and warmed up beside the old one, in a thread, while the old one answers; then one
reference changes. When that fails, the old model goes on answering and the endpoint's report says why.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray

from deploy.access.denials import write_until
from deploy.access.key_following import KeyFollower
from deploy.access.tokens import token_of
from deploy.admin import AdminDesk
from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.black_box import BlackBox, box_folder
from deploy.answering.call_cost import CallCost, measure_cost
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
from deploy.monitoring.metrics import Reading, Standing
from deploy.monitoring.ray_metrics import export_until
from deploy.places import journal_directory
from deploy.reporting import Reporter
from deploy.rollout.state import EndpointState
from deploy.rollout.versions import Contest, Routing
from orchestrator.domain.errors import OrchestratorError

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Means:
    """What a replica has for the models in it; `on_gpu`: a GPU, or a part of one."""

    threads: int = 1
    on_gpu: bool = False
    latency_seconds: float | None = None


class Resident:
    """Follows an endpoint's journal. Its slot is written under `_changing`, by a swap or by the thread that follows."""

    def __init__(
        self, name: str, storage: str, means: Means, *, follow: Callable[[EndpointState], None] | None = None
    ) -> None:
        """Opens what the journal says and begins to follow it.

        Args:
            name: of the endpoint, which was started before.
            storage: where it is.
            means: the replica's.
            follow: hears of the endpoint's state at each look at its journal, in the thread that follows.

        Raises:
            EndpointError: it has no token.
        """
        self.name = name
        self._means = means
        self._follow_too = follow
        self._identity, self._started = secrets.token_hex(4), time.time()
        self._slot = ModelSlot()
        self._changing = threading.Lock()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._follower = JournalFollower(journal_directory(storage, name))
        self._fault = ""
        settings = AppSettings(
            name, token_of(storage, name), latency_seconds=means.latency_seconds, program_version=_program_version()
        )
        keys = KeyFollower(storage, name)
        self.app = EndpointApp(settings, self._slot, keys.keyring, AdminDesk(storage, name, self.reading))
        self._box = _box(boxes := box_folder(storage, name))
        reporter = Reporter(name, self._slot, self.app.feedback, self.app.arms.traffic, boxes)
        reporter.report()  # before it takes a challenger that killed the replica before it
        self._catch_up()
        self._begin("follow-journal", self._follow)
        self._begin("follow-tokens", lambda: keys.follow_until(self._ended))
        if ray.is_initialized():  # telling Ray numbers would start a cluster of its own
            self._begin("export-numbers", lambda: export_until(self._ended, name, self.reading))
        self._begin("audit", lambda: write_until(self._ended, storage, name, self.app.denials))
        self._begin("report", lambda: reporter.report_until(self._ended))

    def _begin(self, name: str, work: Callable[[], None]) -> None:
        thread = threading.Thread(target=work, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def end(self, *, wait: bool = False) -> None:
        """Has its threads end, and waits for that where asked to; requests that go on are answered."""
        self._ended.set()
        for thread in self._threads if wait else ():
            thread.join()

    def adopt(self, routing: Routing) -> None:
        """Serves what `routing` says, unless what it serves is a later decision's.

        Raises:
            BundleError: when the bundle cannot be served; the model before goes on answering.
        """
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

    def report(self) -> dict[str, Any]:
        """Returns who this replica is, what it serves, and how many requests ended in which way."""
        served, counts = self._slot.served, self.app.counts
        return {
            "pid": os.getpid(),
            "version": served.version if served else None,
            "generation": served.generation if served else 0,
            "answered": counts.answered,
            "refused": counts.refused,
            "failed": counts.failed,
            "fault": self._fault,
            "usual_seconds": self.app.arms.usual_seconds,
            "contender": None if served is None or served.contender is None else served.contender.served.version,
            "weight": None if served is None or served.contender is None else served.contender.weight,
        }

    def reading(self) -> Reading:
        """Returns the numbers of this endpoint in this replica."""
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
        return Reading(standing, self.app.meter.reading())

    def check(self) -> None:
        """Has the model answer one of its own rows; raises where it cannot."""
        served = self._slot.served
        if served is not None:
            served.bundle.predict(served.bundle.sample[:1])

    def _follow(self) -> None:
        born = time.monotonic()
        young = grown = FOLLOW_SECONDS
        if not self._follower.is_local:
            young, grown = STORE_YOUNG_FOLLOW_SECONDS, STORE_FOLLOW_SECONDS
        while not self._ended.wait(young if time.monotonic() - born < YOUNG_SECONDS else grown):
            self._catch_up()

    def _catch_up(self) -> None:
        """Serves what the journal says; what goes wrong is kept for the report and tried again."""
        try:
            state = self._follower.state()
            if self._follow_too is not None:
                self._follow_too(state)
            if state.routing is not None:
                self.adopt(state.routing)
        except (OrchestratorError, OSError) as error:
            if self._fault != str(error):
                logger.warning("The endpoint '%s' cannot follow its journal here: %s", self.name, error)
            self._fault = str(error)

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
        """Returns a bundle, warmed up, and its cost; the one that is held here, as champion or challenger."""
        held = [] if served is None else [served, *([served.contender.served] if served.contender else [])]
        known = next((one for one in held if (one.version, one.bundle.uri) == (version, uri)), None)
        if known is not None:
            return known.bundle, known.cost
        bundle = open_bundle(uri, threads=self._means.threads, on_gpu=self._means.on_gpu)
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

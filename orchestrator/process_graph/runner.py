"""The runner: holds a study's Tune experiment and brings its bundles to the endpoint.

A plain class; `launch` makes it a Ray actor: named, detached, 0 CPU, restarting by itself. Each life of it is a new
Tune experiment; what earlier lives ran is taken back into the study first. The command line only watches it.
"""

import itertools
import math
import os
import threading
import time
import traceback
from collections.abc import Mapping
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deploy import EndpointAddress, Replicas, replicas_of
from orchestrator.domain.rollout import RolloutPlan
from orchestrator.domain.serving import ServeSpecification
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import Storage
from orchestrator.process_graph.arbiter import reserved_replicas
from orchestrator.process_graph.cluster import living_nodes, worker_slots
from orchestrator.process_graph.host_beat import HostBeat
from orchestrator.process_graph.placements import give_back_placements, placement_name
from orchestrator.process_graph.promoter import Promoter
from orchestrator.process_graph.serving import bring_up
from orchestrator.process_graph.tenant_metrics import TenantMetrics
from orchestrator.study import Layout
from orchestrator.tuning.code import Code
from orchestrator.tuning.execution import choose_execution
from orchestrator.tuning.outage import OUTAGE_SECONDS, is_outage
from orchestrator.tuning.slots import ask_patiently, prepare_environment
from orchestrator.tuning.sweeping import sweep
from orchestrator.tuning.workshop import Workshop

LOOP_SECONDS = 0.1
MISSED_SECONDS = 2 * OUTAGE_SECONDS  # a storage that is missed is spoken of for so long: who waits for it is silent
RETRY_SECONDS = 1.0  # before a Tune experiment that broke is begun anew
HOSTS_SECONDS = 3.0  # between looks at which hosts there are
ENDPOINT_SECONDS = 5.0  # before an endpoint that did not come up is tried again
PLACE_SECONDS = 5.0  # Serve finds a host for a replica in less, where there is room on one
LOAD_SECONDS = 0.3  # between looks at how many replicas are wanted, where they come and go
UNWATCHED_SECONDS = 600.0  # after the end: whoever watches releases the actors, and nobody may have
MOST_BREAKS = 3  # a Tune that breaks at once, again and again, is not going to work


class Runner:
    """One study's workers and promotions. Three threads: Tune, the endpoint, and the loop that steers both."""

    def __init__(self, specification: Mapping[str, Any], storage: str, study: Any, code: Code) -> None:
        self._specification = StudySpecification.from_dict(specification)
        self._storage = Storage.of(storage)
        self._study = study
        self._code = code
        self._life = f"life{int(time.time() * 1000) % 10**9}"
        self._phase = "starting"
        self._error = ""
        self._wants_workers = True
        self._endpoint: EndpointAddress | None = None
        self._endpoint_error = ""
        self._hook_errors: list[str] = []
        self._outage = (-math.inf, "")  # when the storage was last missed, and why
        self._experiments = itertools.count(1)
        self._tenants = TenantMetrics(self._specification)
        self._watch: Any = None  # hears of the present experiment's slots
        self._beats: dict[str, Any] = {}
        self._look_at_hosts_at = 0.0
        self._look_at_load_at = 0.0
        self._placed_at = time.monotonic()  # when the least of replicas last had a place, or were not asked for
        self._replicas = Replicas()
        # how many workers may stay, in all and on each host, where replicas need the room of the others
        self._room: tuple[int, Mapping[str, int] | None] | None = None
        self._asked_at = time.monotonic()
        self.slots = worker_slots(self._specification, with_hosts_to_come=True).total
        self.execution = choose_execution(self._specification)
        serve = self._specification.serve
        self._promoter = Promoter(self._study, RolloutPlan() if serve is None else serve.rollout)
        prepare_environment(self.slots)
        threading.Thread(target=self._guarded, name="runner", daemon=True).start()

    def describe(self) -> dict[str, Any]:
        """Returns how the study is run, for `status` and the live view."""
        self._asked_at = time.monotonic()
        return {
            "pid": os.getpid(),
            "phase": self._phase,
            "error": self._error,
            "execution": self.execution,
            "slots": self.slots,
            "endpoint": None if self._endpoint is None else _endpoint_dict(self._endpoint),
            "endpoint_error": self._endpoint_error,
            "challenger": self._promoter.waits,
            "hook_errors": self._hook_errors[-3:],
            "storage_error": self._outage[1] if time.monotonic() - self._outage[0] < MISSED_SECONDS else "",
        }

    def unwatched_seconds(self) -> float:
        """Returns for how long nobody has looked."""
        return time.monotonic() - self._asked_at

    def _guarded(self) -> None:
        try:
            self._run()
            self._phase = "ended"
        except Exception as error:  # noqa: BLE001 - a thread's edge: the driver shows what is recorded here
            self._error = "".join(traceback.format_exception(error))
            self._phase = "failed"
        self._leave_unwatched()

    def _leave_unwatched(self) -> None:
        """Ends the study's actors when nobody watches any more: a command that was killed does not release them."""
        while self.unwatched_seconds() < UNWATCHED_SECONDS:
            time.sleep(RETRY_SECONDS)
        ray.kill(self._study, no_restart=True)
        ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    def _run(self) -> None:
        ray.get(self._study.all_workers_lost.remote("a new runner began"))
        give_back_placements(self._storage, self._specification.study)  # what an earlier life was asking for
        self._sweep()
        if self._specification.serve is not None:
            threading.Thread(target=self._bring_endpoint_up, name="endpoint", daemon=True).start()
        workshop = self._prepare()
        self._phase = "tuning"
        steering = threading.Thread(target=self._steer, name="steering", daemon=True)
        steering.start()
        breaks = 0
        while self._wants_workers:
            try:
                self._tune(workshop)
            except Exception as error:
                breaks += 1
                self._hook_errors.append(repr(error))
                ray.get(self._study.all_workers_lost.remote(f"Tune broke: {error!r}"[:300]))
                if breaks >= MOST_BREAKS:
                    raise
                time.sleep(RETRY_SECONDS)
        steering.join()
        self._sweep()

    def _sweep(self) -> None:
        """Takes away what the study does not refer to; no worker runs before a life's begin and after its end."""
        checkpoints, bundles = ray.get(self._study.referred.remote())
        sweep(Layout(self._storage, self._specification.study), checkpoints, bundles)

    def _prepare(self) -> Workshop:
        """Loads the data once and measures the trivial predictor."""
        specification, data, sha256 = self._specification, None, ""
        if specification.data is not None:
            from trainables.data import baseline, load, split

            asked = specification.data
            parts = split(load(asked.source, target=asked.target), asked.test, asked.validation, asked.seed)
            metric = specification.objective.metric.removeprefix("val_")
            data, sha256 = parts, parts.sha256
            ray.get(self._study.measured.remote(baseline(parts, metric), sha256))
        from orchestrator.tuning.versions import versions

        return Workshop(specification, self._code, data, self._storage, sha256, versions())

    def _tune(self, workshop: Workshop) -> None:
        """Runs one Tune experiment to its end; its workers' names are its own, for names that were given up stay so."""
        life = f"{self._life}.{next(self._experiments)}"
        resources = self._specification.resources
        if self.execution == "tune":
            from orchestrator.tuning.native import SlotWatch, run_native

            self._watch = SlotWatch()
            run_native(
                self._study,
                workshop,
                life=life,
                wanted=lambda: self.slots,
                cpu=resources.cpu,
                gpu=resources.gpu,
                errors=self._hook_errors,
                watch=self._watch,
                room_name=self._room_name,
            )
            return
        from orchestrator.tuning.pooled import WorkerWatch, run_pooled

        self._watch = WorkerWatch(self._worker_lost)
        run_pooled(
            self._study,
            ray.put(workshop),
            life=life,
            wanted=lambda: self.slots if self._wants_workers else -1,
            watch=self._watch,
            cpu=resources.cpu,
            gpu=resources.gpu,
            room_name=self._room_name,
        )

    def _room_name(self) -> str:
        return placement_name(self._storage, self._specification.study)

    def _worker_lost(self, worker: str, cause: str, blame: bool) -> None:
        if not blame:
            self._outage = (time.monotonic(), cause)
        ask_patiently(lambda: self._study.worker_lost.remote(worker, cause, blame))

    def _steer(self) -> None:
        """Asks the study what it wants, until it has ended; a fault of one turn is recorded, and the next one tried."""
        while True:
            try:
                if self._turn(self._promoter):
                    return
            except Exception as error:  # noqa: BLE001 - a thread's edge: without this loop the study would never end
                self._hook_errors.append(repr(error)[:300])
                reason = getattr(error, "cause", error)
                if is_outage(reason):
                    self._outage = (time.monotonic(), str(reason))
            time.sleep(LOOP_SECONDS)

    def _turn(self, promoter: Promoter) -> bool:
        """Does what the study wants now; returns whether it has ended."""
        # slots of `execution: tune` are no workers of their own to the study, which could not choose among them
        room = None if self.execution == "tune" else self._room
        word = ray.get(self._study.tick.remote(self.slots, room))
        self._wants_workers = word["wants_workers"]
        if self._watch is not None:
            self._watch.kill(frozenset(word["fenced"]))
        if word["challenger"] is not None:
            if self._endpoint is not None:
                is_ending = word["phase"] == "ending"
                promoter.promote(self._endpoint.name, word["challenger"], is_ending=is_ending)
            elif self._endpoint_error and word["phase"] == "ending":
                # until then it is tried again, and the challenger waits
                ray.get(self._study.serves_no_more.remote(f"there is no endpoint: {self._endpoint_error}"))
        self._keep_beats()
        self._follow_load()
        self._follow_hosts()
        return bool(word["phase"] == "ended")

    def _follow_load(self) -> None:
        """Looks how many replicas the endpoint asks for, and has as many workers as fit beside them."""
        serve = self._specification.serve
        if serve is None or time.monotonic() < self._look_at_load_at:
            return
        self._look_at_load_at = time.monotonic() + LOAD_SECONDS
        before, self._replicas = self._replicas, replicas_of(serve.application)
        lacks_a_place = self._lacks_a_place(serve)
        if before != self._replicas or lacks_a_place:
            self.slots = self._wanted_slots(lacks_a_place)
        if reserved_replicas(serve, self._replicas.asked) > serve.replicas or lacks_a_place:
            places = worker_slots(self._specification, self._replicas, with_hosts_to_come=False)
            self._room = places.total, places.hosts
        else:
            self._room = None

    def _wanted_slots(self, lacks_a_place: bool) -> int:
        """Returns how many workers there should be; none is added while a replica waits for a host of its own."""
        fitting = worker_slots(self._specification, self._replicas, with_hosts_to_come=True).total
        return min(fitting, self._watch.running()) if lacks_a_place and self._watch is not None else fitting

    def _lacks_a_place(self, serve: ServeSpecification) -> bool:
        """Returns whether one of the least of replicas waits: its room is kept, but not on one host."""
        if len(self._replicas.hosts) >= min(serve.replicas, self._replicas.asked):
            self._placed_at = time.monotonic()
        return time.monotonic() - self._placed_at > PLACE_SECONDS

    def _follow_hosts(self) -> None:
        """Has as many workers as the hosts hold that are there now; where hosts went, replicas come first."""
        if time.monotonic() < self._look_at_hosts_at:
            return
        self._look_at_hosts_at = time.monotonic() + HOSTS_SECONDS
        watch, serve = self._watch, self._specification.serve
        self.slots = self._wanted_slots(serve is not None and self._lacks_a_place(serve))
        self._tenants.tell(0 if watch is None else watch.running(), self._replicas)
        if watch is None or serve is None:
            return
        running = watch.workers()
        if len(running) > worker_slots(self._specification, with_hosts_to_come=False).total:
            # one at a time: a slot that waits for a host takes the room first, and is the next to go
            cause = "hosts went, and a replica needs its room"
            ray.get(self._study.worker_lost.remote(running[-1], cause, False))

    def _keep_beats(self) -> None:
        """Starts a beat on each further host; the one that runs the study dies with it in any case."""
        own = ray.get_runtime_context().get_node_id()
        for node in living_nodes():
            host = node["NodeID"]
            if host != own and host not in self._beats:
                place = NodeAffinitySchedulingStrategy(host, soft=False)
                beat = ray.remote(HostBeat).options(num_cpus=0, scheduling_strategy=place)
                self._beats[host] = beat.remote(self._study, host)

    def _bring_endpoint_up(self) -> None:
        serve = self._specification.serve
        assert serve is not None
        while self._endpoint is None:
            try:
                self._endpoint = bring_up(serve, str(self._storage))
                self._endpoint_error = ""
            except Exception as error:  # noqa: BLE001 - a thread's edge: tuning goes on, the driver shows it
                self._endpoint_error = str(error)
                time.sleep(ENDPOINT_SECONDS)


def _endpoint_dict(address: EndpointAddress) -> dict[str, Any]:
    return {
        "name": address.name,
        "url": address.url,
        "port": address.port,
        "asked_port": address.asked_port,
        "grpc_port": address.grpc_port,
        "ingress": address.ingress,
        "certificate": address.certificate,
        "token_file": str(address.token_file),
    }

"""The arbiter between the two tenants of a cluster: how many workers have room beside the replicas.

Ray has no priorities, and Serve's autoscaler does not look at free CPUs: a replica that finds none would wait for a
trial's end. So the runner looks how many replicas the endpoint asks for, and keeps only as many workers as fit beside
them; the study says which of them go. When the endpoint gives replicas back, workers return to their room.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deploy import Replicas
from orchestrator.domain.serving import ServeSpecification
from orchestrator.domain.specification import StudySpecification

Room = Mapping[str, float]
KINDS = ("CPU", "GPU")
ROUNDING = 1e-9  # ten times a tenth of a CPU are one
NO_REPLICAS = Replicas()


@dataclass(frozen=True, slots=True)
class Places:
    """How many workers there may be: in all, and on each host by its id; `hosts` None: wherever they are."""

    total: int
    hosts: Mapping[str, int] | None = None


def reserved_replicas(serve: ServeSpecification | None, asked: int = 0) -> int:
    """Returns for how many replicas room is kept, where the endpoint asks for `asked` now; all that it shares."""
    if serve is None:
        return 0
    if serve.share:
        return asked
    if serve.priority == "tuning":
        return serve.replicas
    return max(serve.replicas, min(asked, serve.most_replicas))


def fitting_workers(
    specification: StudySpecification, hosts: Mapping[str, Room], replicas: Replicas = NO_REPLICAS
) -> Places:
    """Returns how many workers fit beside the replicas, and on which hosts.

    A replica that waits gets the host where it costs the fewest workers: room on two hosts that neither of them has
    alone would be of no use to it. At least one worker runs, or nothing would; under load `tuning.floor`, which may be
    none, and where the floor holds back a replica, it does so on any host.

    Args:
        specification: the study's.
        hosts: their ids, and what Ray calls their resources.
        replicas: those that the endpoint asks for now, and where some are; the least need not be asked for.
    """
    resources, serve = specification.resources, specification.serve
    reserved = reserved_replicas(serve, replicas.asked)
    worker = {"CPU": resources.cpu, "GPU": resources.gpu}
    rooms = {host: {kind: room.get(kind, 0.0) for kind in KINDS} for host, room in hosts.items()}
    if serve is not None:
        _place(rooms, replica_need(serve, replicas), worker, reserved, replicas.hosts)
    places = {host: _holds(room, worker) for host, room in rooms.items()}
    is_loaded = serve is not None and not serve.share and reserved > serve.replicas
    least = specification.worker_floor if is_loaded else max(1, specification.worker_floor)
    fitting = sum(places.values())
    total = max(least, min(fitting, resources.concurrent or fitting))
    return Places(total, places if serve is not None and fitting >= least else None)


def _place(rooms: dict[str, dict[str, float]], need: Room, worker: Room, replicas: int, there: Sequence[str]) -> None:
    """Takes the replicas' room out of the hosts': first of those that run, where they are, then of those that wait."""
    running = [host for host in there if host in rooms][:replicas]
    for host in running:
        _take(rooms[host], need)
    for _ in range(replicas - len(running)):
        fitting = [host for host, room in rooms.items() if _holds(room, need)]
        if not fitting:
            # no host ever holds it whole; it counts all the same, as room that may come free
            fitting = sorted(rooms, key=lambda host: -rooms[host]["CPU"])[:1]
        if fitting:
            _take(rooms[min(fitting, key=lambda host: _cost(rooms[host], need, worker))], need)


def _cost(room: Room, need: Room, worker: Room) -> tuple[int, float]:
    """Returns how many workers a replica costs on a host, and less room left where that is equal."""
    left = {kind: room[kind] - need[kind] for kind in KINDS}
    return _holds(room, worker) - _holds(left, worker), room["CPU"]


def _take(room: dict[str, float], need: Room) -> None:
    for kind in KINDS:
        room[kind] -= need[kind]


def _holds(room: Room, need: Room) -> int:
    """Returns how many of these fit into a room."""
    asked = [kind for kind in KINDS if need[kind] > 0]
    return max(0, min((int(room[kind] / need[kind] + ROUNDING) for kind in asked), default=0))


def replica_need(serve: ServeSpecification, replicas: Replicas = NO_REPLICAS) -> dict[str, Any]:
    """Returns what a replica takes, in Ray's words; of shared ones, which `replicas` are, what they have."""
    if serve.share:
        return {"CPU": replicas.cpus, "GPU": replicas.gpus}
    return {"CPU": serve.replica_cpus, "GPU": serve.replica_gpus}

"""The arbiter between the two tenants of a cluster: how many workers have room beside the replicas.

Ray has no priorities, and Serve's autoscaler does not look at free CPUs: a replica that finds none would wait for a
trial's end. So the runner looks how many replicas the endpoint asks for, and keeps only as many workers as fit beside
them; the study says which of them go. When the endpoint gives replicas back, workers return to their room.
"""

from collections.abc import Iterable, Mapping

from deploy import Scale
from orchestrator.domain.serving import ServeSpecification
from orchestrator.domain.specification import StudySpecification

Room = Mapping[str, float]


def reserved_replicas(serve: ServeSpecification | None, asked: int = 0) -> int:
    """Returns for how many replicas room is kept, where the endpoint asks for `asked` now."""
    if serve is None:
        return 0
    if serve.priority == "tuning":
        return serve.replicas
    return max(serve.replicas, min(asked, serve.most_replicas))


def fitting_workers(specification: StudySpecification, rooms: Iterable[Room], asked: int = 0) -> int:
    """Returns how many workers fit on hosts of these resources beside the replicas.

    At least one, or nothing would run; under load `tuning.floor`, which may be none.

    Args:
        specification: the study's.
        rooms: the hosts, each what Ray calls its resources.
        asked: how many replicas the endpoint asks for now; those reserved from the start need not be asked for.
    """
    rooms = list(rooms)
    resources, serve = specification.resources, specification.serve
    replicas = reserved_replicas(serve, asked)
    taken = replicas * serve.replica_cpus if serve is not None else 0.0
    fitting = int((sum(room.get("CPU", 0.0) for room in rooms) - taken) / resources.cpu)
    if resources.gpu:
        fitting = min(fitting, int(sum(room.get("GPU", 0.0) for room in rooms) / resources.gpu))
    is_loaded = serve is not None and replicas > serve.replicas
    least = specification.worker_floor if is_loaded else max(1, specification.worker_floor)
    return max(least, min(fitting, resources.concurrent or fitting))


def scale_of(serve: ServeSpecification) -> Scale:
    """Returns the endpoint's bounds and targets in serving's own words."""
    return Scale(
        serve.replicas,
        serve.most_replicas,
        serve.replica_cpus,
        serve.scale.ongoing,
        serve.scale.latency_seconds,
        serve.scale.down_seconds,
    )

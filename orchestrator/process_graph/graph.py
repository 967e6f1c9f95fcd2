"""The process graph as Ray has it now: who runs, where, and whose the CPUs are.

Read from the GCS's table of actors, which the local session serves without a dashboard (Ray's state API would need
one). The one place that looks at that table; its fields were read in Ray 2.60's `gcs.proto`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ray
from ray._private.state import state as cluster_state
from ray.core.generated import gcs_pb2
from ray.exceptions import RayError

from orchestrator.process_graph.names import NAMESPACE

STUDY, RUNNER, ENDPOINT = "study:", "runner:", "endpoint:"
REPLICA = "ServeReplica:"  # then application:deployment
TRAINABLE = "Trainable"  # how the classes end that Tune makes actors of
SERVE = ("ServeController", "ProxyActor")
OWNER_SECONDS = 2.0  # for an endpoint's actor to say whose replicas it shares


@dataclass(frozen=True, slots=True)
class Node:
    """One actor of the process graph; `shares`: an endpoint's actor, in the replicas of the endpoint of that name."""

    kind: str  # "study actor", "runner", "worker", "endpoint actor", "replica" or "serve"
    name: str
    pid: int
    host: str
    state: str
    cpus: float
    restarts: int
    children: tuple["Node", ...] = ()
    shares: str = ""

    def walk(self) -> Iterator["Node"]:
        """Yields the node and everything below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data, children included."""
        return {
            "kind": self.kind,
            "name": self.name,
            "pid": self.pid,
            "host": self.host,
            "state": self.state,
            "cpus": self.cpus,
            "restarts": self.restarts,
            "shares": self.shares,
            "children": [child.to_dict() for child in self.children],
        }


@dataclass(frozen=True, slots=True)
class ProcessGraph:
    """Everything of ours in one cluster; `cpus` by tenant: total, tuning, serving, free."""

    address: str
    nodes: tuple[Node, ...] = ()
    cpus: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {
            "address": self.address,
            "cpus": dict(self.cpus),
            "nodes": [node.to_dict() for node in self.nodes],
        }


def process_graph() -> ProcessGraph:
    """Returns what runs in the cluster that this process is connected to.

    Costs one read of the table of actors, and a question to each endpoint that has no replicas of its own.
    """
    actors = list(_living_actors())
    nodes = [*_studies(actors), *_endpoints(actors), *_serve(actors)]
    everyone = [descendant for node in nodes for descendant in node.walk()]
    total, free = ray.cluster_resources().get("CPU", 0.0), ray.available_resources().get("CPU", 0.0)
    cpus = {
        "total": total,
        "tuning": sum(node.cpus for node in everyone if node.kind == "worker"),
        "serving": sum(node.cpus for node in everyone if node.kind == "replica"),
        "free": free,
    }
    return ProcessGraph(ray.get_runtime_context().gcs_address, tuple(nodes), cpus)


def _living_actors() -> Iterable[Any]:
    accessor = cluster_state._connect_and_get_accessor()
    dead = gcs_pb2.ActorTableData.ActorState.Value("DEAD")
    for given in accessor.get_actor_table(None, None):
        actor = gcs_pb2.ActorTableData.FromString(given)
        if actor.state != dead:
            yield actor


def _studies(actors: list[Any]) -> Iterable[Node]:
    """Yields each study's actor, below it its runner, and below that the workers."""
    for actor in actors:
        if not _is_ours(actor, STUDY):
            continue
        mark = actor.name.removeprefix(STUDY)
        runners = [other for other in actors if _is_ours(other, RUNNER) and other.name == RUNNER + mark]
        study = mark.rpartition(":")[0]
        yield _node("study actor", study, actor, [_node("runner", study, r, _workers(r, actors)) for r in runners])


def _workers(runner: Any, actors: list[Any]) -> Iterable[Node]:
    """Yields the Tune slots: the trainables that the runner's process owns."""
    owner = runner.address.worker_id
    slots = [a for a in actors if a.owner_address.worker_id == owner and a.class_name.endswith(TRAINABLE)]
    for slot in sorted(slots, key=lambda slot: slot.start_time):
        yield _node("worker", "Tune slot", slot)


def _endpoints(actors: list[Any]) -> Iterable[Node]:
    """Yields each endpoint's actor, with its replicas below it."""
    for actor in actors:
        if _is_ours(actor, ENDPOINT):
            name = actor.name.removeprefix(ENDPOINT)
            replicas = [a for a in actors if a.class_name.startswith(f"{REPLICA}{name}:")]
            below = [_node("replica", a.name.rpartition("#")[2], a) for a in replicas]
            node = _node("endpoint actor", name, actor, below)
            yield node if below else replace(node, shares=_owner(actor.name))


def _owner(name: str) -> str:
    """Returns the endpoint whose replicas an endpoint's actor says that it shares; empty where it says nothing."""
    try:
        return str(ray.get(ray.get_actor(name, NAMESPACE).owner.remote(), timeout=OWNER_SECONDS))
    except (RayError, ValueError):  # it is gone, or just starts
        return ""


def _serve(actors: list[Any]) -> Iterable[Node]:
    for actor in actors:
        if actor.class_name in SERVE:
            yield _node("serve", actor.class_name, actor)


def _is_ours(actor: Any, prefix: str) -> bool:
    return bool(actor.ray_namespace == NAMESPACE and actor.name.startswith(prefix))


def _node(kind: str, name: str, actor: Any, children: Iterable[Node] = ()) -> Node:
    return Node(
        kind=kind,
        name=name,
        pid=int(actor.pid),
        host=str(actor.address.ip_address),
        state=gcs_pb2.ActorTableData.ActorState.Name(actor.state).lower(),
        cpus=_cpus(actor),
        restarts=int(actor.num_restarts),
        children=tuple(children),
    )


def _cpus(actor: Any) -> float:
    """Returns the CPUs that the actor holds, its placement group's name for them included."""
    held = dict(actor.required_resources)
    named = [amount for name, amount in held.items() if name.startswith("CPU_group_") and name.count("_") == 2]
    return float(held.get("CPU", 0.0) or sum(named))

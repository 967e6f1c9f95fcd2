"""What a study asks of the cluster before it spends a trial: a host with room, and a storage that all hosts see.

Also where things of a study live: its actors on the head, whose loss a cluster outlives only with a store of its own
for Ray's state. Workers are on every host, and any other host may go.
"""

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
import yaml
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from deploy import Replicas
from orchestrator.domain.errors import ClusterError, StorageError
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import AnyStorage, Storage
from orchestrator.process_graph.arbiter import NO_REPLICAS, Places, Room, fitting_workers, replica_need

HEAD = "node:__internal_head__"  # a resource that Ray gives the head alone
ON_HEAD = {"resources": {HEAD: 0.001}}
PROBE_SECONDS = 60.0  # a host's first worker starts in a few; a busy one needs longer
KIND_LABEL = "ray.io/node-group"  # which of the cluster file's kinds a host is
BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # `ray up` leaves the cluster's file there, on the head


def require_room(specification: StudySpecification) -> None:
    """Raises where no host can ever hold one worker, or one replica, of the study.

    Raises:
        ClusterError: with what is asked, and what the largest hosts have.
    """
    rooms = [node["Resources"] for node in living_nodes()] + list(_hosts_to_come())
    resources, serve = specification.resources, specification.serve
    asked = {"a worker (resources.cpu, resources.gpu)": {"CPU": resources.cpu, "GPU": resources.gpu}}
    if serve is not None:
        asked["a replica (serve.cpu, serve.gpu)"] = replica_need(serve)
    for what, need in asked.items():
        if not any(_fits(need, room) for room in rooms):
            raise ClusterError(
                f"no host can ever hold {what}: it takes {_amounts(need)}, and the largest host has "
                f"{_amounts(max(rooms, key=lambda room: (room.get('GPU', 0), room.get('CPU', 0)), default={}))}; ask "
                "for less, or give the cluster larger hosts"
            )


def worker_slots(
    specification: StudySpecification, replicas: Replicas = NO_REPLICAS, *, with_hosts_to_come: bool
) -> Places:
    """Returns how many workers fit beside the replicas that the endpoint has or asks for now; see `arbiter`.

    With the hosts that an autoscaler may add, so that their workers are asked for and it adds them; or with those that
    are there, to see whether replicas have room.
    """
    hosts: dict[str, Room] = {node["NodeID"]: node["Resources"] for node in living_nodes()}
    if with_hosts_to_come:
        hosts |= {f"to come {number}": room for number, room in enumerate(_hosts_to_come())}
    return fitting_workers(specification, hosts, replicas)


def require_shared_storage(storage: AnyStorage) -> None:
    """Raises where a host does not see the storage, or cannot write there. Costs nothing on a single host.

    A host that lost its power is waited for until Ray gives it up.

    Raises:
        StorageError: with the host's name, and what it said.
    """
    nodes = living_nodes()
    if len(nodes) < 2:
        return
    name = f".probe-{secrets.token_hex(6)}"
    place = Storage.of(storage).child(name)
    try:
        place.write("asked", name.encode())
        for node, answer in [(node, _ask(node, place)) for node in nodes]:
            _require_seen(node, answer, storage)
    finally:
        with suppress(StorageError):
            Storage.of(storage).delete_tree(name)


def living_nodes() -> list[dict[str, Any]]:
    """Returns the hosts that the cluster has now, in Ray's own words."""
    return [node for node in ray.nodes() if node["Alive"]]


def _fits(need: Room, room: Room) -> bool:
    return all(room.get(name, 0.0) >= amount for name, amount in need.items())


def _amounts(room: Room) -> str:
    return " and ".join(f"{room.get(name, 0.0):g} {name}" for name in ("CPU", "GPU") if name in room) or "nothing"


def _hosts_to_come() -> Iterator[Room]:
    """Yields the hosts that the autoscaler may add, where this is the head of a cluster that `ray up` made.

    Those of a kind that run already are left out. Hosts of one's own are there, or unknown: nothing comes of them.
    """
    try:
        config = yaml.safe_load(BOOTSTRAP.expanduser().read_text())
        kinds, head = dict(config["available_node_types"]), config["head_node_type"]
        if config["provider"]["type"] == "local":
            return
    except (OSError, yaml.YAMLError, TypeError, KeyError, ValueError):
        return
    running = Counter(node["Labels"].get(KIND_LABEL, "") for node in living_nodes())
    left = int(config.get("max_workers", 0)) - sum(running[kind] for kind in kinds if kind != head)
    for name, kind in kinds.items():
        more = 0 if name == head else min(left, int(kind.get("max_workers", 0)) - running[name])
        left -= max(0, more)
        yield from [kind.get("resources") or {}] * more


def _ask(node: Mapping[str, Any], place: Storage) -> Any:
    there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return ray.remote(_answer).options(num_cpus=0, scheduling_strategy=there, max_retries=0).remote(place)


def _answer(place: Storage) -> str:
    """Runs on each host: returns what is wrong there, or nothing."""
    try:
        asked = place.read("asked")
        if not place.uri.partition("?")[0].endswith(asked.decode()):
            return "another directory is there"
        place.write(ray.get_runtime_context().get_node_id(), asked)
    except StorageError as error:
        return str(error)
    return ""


def _require_seen(node: Mapping[str, Any], answer: Any, storage: AnyStorage) -> None:
    host = node["NodeManagerAddress"]
    try:
        wrong = str(ray.get(answer, timeout=PROBE_SECONDS))
    except RayError as error:
        if node["NodeID"] not in {other["NodeID"] for other in living_nodes()}:
            return  # it died meanwhile, and sees nothing any more
        raise ClusterError(
            f"host {host} of the cluster cannot run the program ({str(error).strip().splitlines()[-1]}); install the "
            "same version of it on every host"
        ) from error
    if wrong:
        raise StorageError(
            f"host {host} does not share the storage {storage} ({wrong}): every host of a cluster must see and write "
            "the same directory; give another storage, such as a network share that is mounted on all of them"
        )

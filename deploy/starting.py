"""Starts and ends an endpoint in the Ray cluster that this process is connected to.

Serve has one HTTP port a cluster. The first endpoint is reached at `/`, further ones at `/<name>`. An application is
deployed once: a later `serve.run` would restart its replicas, so models change through the endpoint actor instead, and
endpoints that share replicas come and go through the actor of the one that has them.
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import ray
from ray import serve

from deploy.access.tls import Tls
from deploy.access.tokens import ensure_token
from deploy.actors import NAMESPACE, EndpointActor, actor_name
from deploy.address import EndpointAddress
from deploy.answering.routes import TAKEN
from deploy.following import endpoint_state
from deploy.handle import EndpointHandle, endpoint_handle, find_handle
from deploy.ingress import shortcut
from deploy.ingress.choice import AUTO
from deploy.ingress.serve_instance import HEAD, QUIET, WILDCARDS, Asked, Listening, ensure_serve, running_applications
from deploy.places import endpoint_place
from deploy.replica import EndpointReplica
from deploy.replies import DEPLOYMENT
from deploy.scaling import Scale, autoscaling
from orchestrator.domain.errors import ClusterError, EndpointError, OrchestratorError
from orchestrator.journal import AnyStorage, Storage

logger = logging.getLogger(__name__)

ONGOING_REQUESTS = 544  # a little more than a replica lets in at once, which refuses with 429; Serve's 5 would idle it
QUEUED_REQUESTS = 512  # beyond it the proxy answers 503 at once, instead of filling its memory
HEALTH_SECONDS = 5.0
TASK_RETRIES = 5  # a promotion in flight when the actor dies is asked again; it is idempotent
POLL_SECONDS = 0.05


def start_endpoint(
    name: str,
    storage: AnyStorage,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    grpc_port: int | None = None,
    ingress: str = AUTO,
    tls: Tls | None = None,
    scale: Scale | None = None,
    timeout_seconds: float = 120.0,
) -> EndpointAddress:
    """Returns the address of the endpoint; starts whatever of it does not run yet.

    Asked again, it changes nothing and returns the same address. When `port` is taken the next free one is used, and
    the address says both; likewise `grpc_port`, which is opened only where it is given. `ingress` is auto, haproxy or
    serve (see `deploy.ingress`); with `tls` both ports speak TLS alone. The caller has connected to Ray. Takes 5-10 s
    the first time; serves whatever version its journal says, at first none.

    Raises:
        EndpointError: when it cannot be reached within the time, with what Serve says about it.
        ClusterError: when this process is not connected to Ray.
    """
    if not ray.is_initialized():
        raise ClusterError("This process is not connected to Ray; call ray.init first.")
    scale = scale or Scale()
    token = ensure_token(storage, name)
    handle = _ensure_actor(name, Storage.of(storage))
    _require_own(handle)
    needed = scale.most * scale.cpus, scale.most * scale.gpus
    listening = ensure_serve(Asked(host, port, grpc_port, ingress, tls, *needed))
    prefix = _ensure_application(name, Storage.of(storage), scale, listening)
    address = _place(handle, listening, prefix, token, asked_port=port)
    _bring_residents(handle, listening, prefix, Storage.of(storage))
    _wait_until_live(address, name, timeout_seconds, lambda: _needs(scale))
    return address


def share_endpoint(name: str, storage: AnyStorage, owner: str, *, timeout_seconds: float = 120.0) -> EndpointAddress:
    """Returns the address of an endpoint that lives in the replicas of `owner`; has it come in where it does not yet.

    It has a journal, rollouts and tokens of its own, and its name behind the other's address. Nothing is restarted, and
    no CPU is taken. Asked again, it changes nothing. The caller has connected to Ray.

    Raises:
        EndpointError: `owner` does not run, has another storage, or lives in another one's replicas itself; the
            endpoint has replicas of its own, or the name is one of the owner's paths; or it is not reached in time.
        ClusterError: when this process is not connected to Ray.
    """
    if not ray.is_initialized():
        raise ClusterError("This process is not connected to Ray; call ray.init first.")
    host = endpoint_handle(owner)
    there = host.status()
    _require_sharable(name, Storage.of(storage), owner, there)
    token = ensure_token(storage, name)
    handle = _ensure_actor(name, Storage.of(storage))
    listening = ensure_serve(Asked())
    address = _place(handle, listening, _below(there["place"][2], name), token, shares=owner)
    host.house(name, lives_here=True)
    why = f"It shares the replicas of '{owner}': see what `orchestrator status --graph` says of them."
    _wait_until_live(address, owner, timeout_seconds, lambda: why)
    return address


def stop_endpoint(name: str) -> None:
    """Ends the endpoint's replicas and its actor; leaves its storage, and Serve to other endpoints (`stop_serve`).

    One that shares another's replicas leaves them.

    Raises:
        EndpointError: when no endpoint of that name runs, or others live in its replicas.
    """
    handle = endpoint_handle(name)
    owner, residents = _company(handle)
    if residents:
        raise EndpointError(
            f"In the replicas of '{name}' live {', '.join(residents)}, too. Stop these first, or all that runs "
            "(`orchestrator down`)."
        )
    if owner is not None:
        owner.house(name, lives_here=False)
    if name in running_applications():
        serve.delete(name)
    ray.kill(handle.actor, no_restart=True)


def _ensure_actor(name: str, storage: Storage) -> EndpointHandle:
    """Returns the handle of the endpoint's actor, started where it does not run."""
    options = ray.remote(EndpointActor).options(
        name=actor_name(name),
        namespace=NAMESPACE,
        get_if_exists=True,
        lifetime="detached",
        num_cpus=0,
        resources={HEAD: 0.001},  # Serve's port is there too, and any other host may go
        max_restarts=-1,
        max_task_retries=TASK_RETRIES,
        max_concurrency=8,
    )
    running = find_handle(name) is not None
    handle = EndpointHandle(name, options.remote(name, str(storage)))
    try:
        kept = handle.status()["storage"]
    except OrchestratorError:
        if not running:
            ray.kill(handle.actor, no_restart=True)
        raise
    if kept != str(storage):
        raise EndpointError(
            f"The endpoint '{name}' runs already, on the storage {kept}; {storage} was given. "
            "Give that storage, stop the endpoint, or take another name."
        )
    return handle


def _ensure_application(name: str, storage: Storage, scale: Scale, listening: Listening) -> str:
    """Returns the route prefix of the endpoint's application; deploys it where it does not run."""
    running = running_applications()
    prefixes = {application: _prefix(application) for application in running}
    if name in running:
        return prefixes[name]
    prefix = f"/{name}" if "/" in prefixes.values() else "/"
    deployment = serve.deployment(serve.ingress()(EndpointReplica)).options(
        name=DEPLOYMENT,
        **({"autoscaling_config": autoscaling(scale)} if scale.is_elastic else {"num_replicas": scale.least}),
        max_ongoing_requests=ONGOING_REQUESTS,
        max_queued_requests=QUEUED_REQUESTS,
        backpressure_config={"retry_after_s": 1.0},
        health_check_period_s=HEALTH_SECONDS,
        graceful_shutdown_timeout_s=5.0,
        graceful_shutdown_wait_loop_s=0.5,
        logging_config=QUIET,
        ray_actor_options={
            "num_cpus": scale.cpus,
            **({"num_gpus": scale.gpus} if scale.gpus else {}),
            **({"resources": {HEAD: 0.001}} if listening.holds_replicas else {}),
            "runtime_env": {"env_vars": {"OMP_WAIT_POLICY": "PASSIVE", **shortcut.ENVIRONMENT}},
        },
    )
    replica = deployment.bind(
        name, str(storage), listening.is_private, on_gpu=scale.gpus > 0, latency_seconds=scale.latency_seconds
    )
    target = serve.RunTarget(
        replica,
        name=name,
        route_prefix=prefix,
    )
    serve.run_many([target], wait_for_applications_running=False)
    return prefix


def _prefix(application: str) -> str:
    """Returns the route prefix of an application: an endpoint's from its actor, any other's taken to be `/`."""
    handle = find_handle(application)
    place: Any = handle.status()["place"] if handle else None
    return "/" if place is None else str(place[2])


def _require_own(handle: EndpointHandle) -> None:
    """Refuses replicas of its own to an endpoint that lives in another one's, while it does."""
    owner, _ = _company(handle)
    if owner is not None and handle.name in owner.status()["residents"]:
        raise EndpointError(
            f"The endpoint '{handle.name}' lives in the replicas of '{owner.name}', which run. Share them "
            "(serve.share), or stop it before it gets its own."
        )


def _company(handle: EndpointHandle) -> tuple[EndpointHandle | None, list[str]]:
    """Returns in whose replicas an endpoint lives, where that one runs, and who lives in its own.

    Of one that cannot say (its journal is damaged) nothing is known, and it can be stopped all the same.
    """
    try:
        status = handle.status()
    except OrchestratorError:
        return None, []
    return find_handle(status["shares"]) if status["shares"] else None, list(status["residents"])


def _require_sharable(name: str, storage: Storage, owner: str, there: Mapping[str, Any]) -> None:
    fault, residents = "", _last_residents(name, storage)
    if name == owner or name in TAKEN:
        fault = f"an endpoint of the name '{name}' cannot; names that are not its own paths can"
    elif there["storage"] != str(storage):
        fault = f"it is on the storage {there['storage']}, and '{name}' on {storage}; both have to be on one"
    elif there["place"] is None:
        fault = "it has none yet; ask again"
    elif there["shares"]:
        fault = f"it lives in those of '{there['shares']}' itself; share that one's"
    elif residents:
        fault = f"in those of '{name}' live {', '.join(residents)}, who would be left without; move these first"
    elif name in running_applications():
        fault = f"'{name}' runs with replicas of its own; stop it first"
    if fault:
        raise EndpointError(f"The replicas of '{owner}' cannot be shared: {fault}.")


def _last_residents(name: str, storage: Storage) -> tuple[str, ...]:
    """Returns who lived in an endpoint's replicas when it ran last; nobody where it never did."""
    if not endpoint_place(storage, name).exists("journal"):
        return ()
    return endpoint_state(storage, name).residents


def _bring_residents(handle: EndpointHandle, listening: Listening, prefix: str, storage: Storage) -> None:
    """Has the endpoints that share these replicas back, after all of them were away; one that moved out stays away."""
    for name in handle.status()["residents"]:
        try:
            if endpoint_state(storage, name).owner != handle.name:
                handle.house(name, lives_here=False)
                continue
            resident = _ensure_actor(name, storage)
            token = ensure_token(storage, name)
            _place(resident, listening, _below(prefix, name), token, shares=handle.name)
        except OrchestratorError as error:
            logger.warning(
                "The endpoint '%s', which shares the replicas of '%s', is not back: %s", name, handle.name, error
            )


def _place(
    handle: EndpointHandle,
    listening: Listening,
    prefix: str,
    token: Path,
    *,
    asked_port: int | None = None,
    shares: str = "",
) -> EndpointAddress:
    """Records where an endpoint is reached, and returns it."""
    files = None if listening.tls is None else (listening.tls.certificate, listening.tls.key)
    handle.place(listening.host, listening.port, prefix, listening.grpc_port, files, shares)
    return EndpointAddress(
        handle.name,
        _url(listening, prefix),
        listening.port,
        token,
        asked_port or listening.port,
        listening.grpc_port,
        listening.ingress.line,
        None if files is None else files[0],
    )


def _below(prefix: str, name: str) -> str:
    return f"{prefix.rstrip('/')}/{name}"


def _needs(scale: Scale) -> str:
    free = f"{_free('CPU'):g} and {_free('GPU'):g}"
    asked = f"{scale.least} replica(s) of {scale.cpus:g} CPU and {scale.gpus:g} GPU"
    return f"It needs {asked}; free are {free}. Free some, or start Ray with more."


def _wait_until_live(
    address: EndpointAddress, application: str, timeout_seconds: float, why: Callable[[], str]
) -> None:
    deadline = time.monotonic() + timeout_seconds
    with httpx.Client(timeout=2.0, verify=address.verify) as http:
        while not _is_live(http, address.url):
            _raise_if_failed(application)
            if time.monotonic() > deadline:
                raise EndpointError(
                    f"The endpoint '{address.name}' does not answer at {address.url} after {timeout_seconds:g} s. "
                    f"{why()}"
                )
            time.sleep(POLL_SECONDS)


def _free(kind: str) -> float:
    return float(ray.available_resources().get(kind, 0.0))


def _is_live(http: httpx.Client, url: str) -> bool:
    try:
        return http.get(f"{url}/v2/health/live").status_code == 200
    except httpx.TransportError:
        return False


def _raise_if_failed(name: str) -> None:
    overview = serve.status().applications.get(name)
    if overview is not None and overview.status in ("DEPLOY_FAILED", "UNHEALTHY"):
        raise EndpointError(f"The endpoint '{name}' cannot be served: {overview.message}")


def _url(listening: Listening, prefix: str) -> str:
    reached = _head_address() if listening.host in WILDCARDS else listening.host
    scheme = "http" if listening.tls is None else "https"
    return f"{scheme}://{f'[{reached}]' if ':' in reached else reached}:{listening.port}{prefix.rstrip('/')}"


def _head_address() -> str:
    """Returns the address of the cluster's head, where the port is."""
    heads = (node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"])
    return str(next(heads, "127.0.0.1"))

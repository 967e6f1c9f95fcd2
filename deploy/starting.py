"""Starts and ends an endpoint in the Ray cluster that this process is connected to.

Serve has one HTTP port a cluster. The first endpoint is reached at `/`, further ones at `/<name>`. An application is
deployed once: a later `serve.run` would restart its replicas, so models change through the endpoint actor instead.
"""

import time
from typing import Any

import httpx
import ray
from ray import serve

from deploy.access.tls import Tls
from deploy.access.tokens import ensure_token
from deploy.actors import NAMESPACE, EndpointActor, actor_name
from deploy.address import EndpointAddress
from deploy.handle import EndpointHandle, endpoint_handle, find_handle
from deploy.ingress import shortcut
from deploy.ingress.choice import AUTO
from deploy.ingress.serve_instance import HEAD, QUIET, WILDCARDS, Asked, Listening, ensure_serve, running_applications
from deploy.replica import EndpointReplica
from deploy.replies import DEPLOYMENT
from deploy.scaling import Scale, autoscaling
from orchestrator.domain.errors import ClusterError, EndpointError, OrchestratorError
from orchestrator.journal import AnyStorage, Storage

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
    needed = scale.most * scale.cpus, scale.most * scale.gpus
    listening = ensure_serve(Asked(host, port, grpc_port, ingress, tls, *needed))
    prefix = _ensure_application(name, Storage.of(storage), scale, listening)
    files = None if listening.tls is None else (listening.tls.certificate, listening.tls.key)
    handle.place(listening.host, listening.port, prefix, listening.grpc_port, files)
    address = EndpointAddress(
        name,
        _url(listening, prefix),
        listening.port,
        token,
        port,
        listening.grpc_port,
        listening.ingress.line,
        None if files is None else files[0],
    )
    _wait_until_live(address, scale, timeout_seconds)
    return address


def stop_endpoint(name: str) -> None:
    """Ends the endpoint's replicas and its actor; leaves its storage, and Serve to other endpoints (`stop_serve`).

    Raises:
        EndpointError: when no endpoint of that name runs.
    """
    handle = endpoint_handle(name)
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


def _wait_until_live(address: EndpointAddress, scale: Scale, timeout_seconds: float) -> None:
    deadline = time.monotonic() + timeout_seconds
    with httpx.Client(timeout=2.0, verify=address.verify) as http:
        while not _is_live(http, address.url):
            _raise_if_failed(address.name)
            if time.monotonic() > deadline:
                raise EndpointError(
                    f"The endpoint '{address.name}' does not answer at {address.url} after {timeout_seconds:g} s. "
                    f"It needs {scale.least} replica(s) of {scale.cpus:g} CPU and {scale.gpus:g} GPU; free are "
                    f"{_free('CPU'):g} and {_free('GPU'):g}. Free some, or start Ray with more."
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

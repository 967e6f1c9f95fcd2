"""Serve itself: one instance a Ray cluster, with one HTTP port that all endpoints share.

The port is on the head; where Serve listens on all addresses, on every host that has a replica too.

The only place that looks behind Serve's public API: for the port that a running instance listens on, for the hosts of
replicas, and to end an instance without a raylet's complaint on the screen. Read in Ray 2.60's `serve/context.py` and
`serve/_private/controller.py`. Which ingress an instance has is written down in the cluster's own key-value store.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import ray
from ray import serve
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put
from ray.serve.config import ControllerOptions, HTTPOptions, gRPCOptions
from ray.serve.context import _get_global_client

from deploy.access.tls import Tls
from deploy.ingress import proxy
from deploy.ingress.choice import AUTO, HAPROXY, SERVE, Ingress, choose_ingress, haproxy_directory, haproxy_environment
from deploy.ingress.grpc_door import grpc_door_environment
from deploy.ingress.orphans import end_orphans, remove_left_folders
from deploy.ingress.ports import free_port
from orchestrator.domain.errors import EndpointError

QUIET = {"log_level": "WARNING", "enable_access_log": False}
CONTROLLER = ("SERVE_CONTROLLER_ACTOR", "serve")  # its name and namespace
WILDCARDS = ("0.0.0.0", "::")
SHUTDOWN_SECONDS = 20.0
POLL_SECONDS = 0.05
GRPC_SERVICE = "deploy.answering.grpc_service.add_to_server"
# Serve's proxy would take 2 GiB into its memory before anybody looked at the token. An answer may be larger than a
# request: 4096 rows of 4000 classes fit. Proxies inherit the controller's environment, and read it there alone.
GRPC_MESSAGE_BYTES = 64 * 1024 * 1024
GRPC_ENVIRONMENT = {"RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(GRPC_MESSAGE_BYTES)}
# Longer than clients keep a connection that they do not use (5 s for httpx, 4 s for most browsers' pools of APIs), so
# that none sends a request on one that is being closed.
KEEP_ALIVE_SECONDS = 65
PROXY_ENVIRONMENT = {
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "0.5",  # one that died is missed for three of them; 10 by default
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",  # 5 by default: on a busy host it would be killed again and again
}
FALLBACK_PORTS = {"HTTP": 8500, "GRPC": 9500}  # Serve's own; the next free ones where they are taken
INGRESS_KEY = b"orchestrator:ingress"  # of the cluster's store
HEAD = "node:__internal_head__"  # a resource that Ray gives the head alone


@dataclass(frozen=True, slots=True)
class Listening:
    """Where Serve listens, behind which ingress; `grpc_port` None: not for gRPC."""

    host: str
    port: int
    grpc_port: int | None
    ingress: Ingress
    tls: Tls | None = None

    @property
    def is_private(self) -> bool:
        """Whether it is there for its own host alone."""
        return is_private(self.host)

    @property
    def holds_replicas(self) -> bool:
        """Whether replicas have to be on the ingress's host, to be reached by it."""
        return self.is_private and self.ingress.kind == HAPROXY


@dataclass(frozen=True, slots=True)
class Asked:
    """What an endpoint wants of Serve; what Serve has once it runs is for all endpoints."""

    host: str = "127.0.0.1"
    port: int = 8000
    grpc_port: int | None = None
    ingress: str = AUTO
    tls: Tls | None = None
    cpus: float = 0.0  # of all its replicas
    gpus: float = 0.0


def is_private(host: str) -> bool:
    """Returns whether only the host itself reaches the address."""
    return host == "localhost" or host.startswith("127.") or host == "::1"


def ensure_serve(asked: Asked) -> Listening:
    """Returns where Serve listens; starts it, on the next free ports, where it does not run.

    Raises:
        EndpointError: Serve runs already and without what was asked for (gRPC, TLS, the ingress); no port is free;
            HAProxy cannot run here; or the TLS files cannot be used.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    client = _client()
    if client is not None:
        return _checked(_listening(client), asked)
    tls = None if asked.tls is None else asked.tls.check()
    ingress = choose_ingress(asked.ingress, is_private=is_private(asked.host), **_hosts(asked))
    end_orphans(haproxy_directory())  # one may hold the port
    remove_left_folders(haproxy_directory())
    grpc_port = None if asked.grpc_port is None else free_port(asked.host, asked.grpc_port)
    chosen = Listening(asked.host, free_port(asked.host, asked.port), grpc_port, ingress, tls)
    _start(chosen)
    return chosen


def _start(chosen: Listening) -> None:
    of_serve = chosen.ingress.kind == SERVE
    tls = chosen.tls if of_serve else None  # HAProxy has it itself, and replicas behind it do without
    environment = PROXY_ENVIRONMENT | proxy.ENVIRONMENT
    if not of_serve:
        environment |= haproxy_environment(chosen.tls) | _fallback_ports(chosen.host)
    if chosen.grpc_port is not None:
        environment |= GRPC_ENVIRONMENT | grpc_door_environment(chosen.host, tls)
    serve.start(
        # An address of the head's own is on no other host. All addresses are: then every host that has a replica
        # answers, and goes on answering while the head is away.
        proxy_location="EveryNode" if chosen.host in WILDCARDS else "HeadOnly",
        http_options=HTTPOptions(
            host=chosen.host,
            port=chosen.port,
            keep_alive_timeout_s=KEEP_ALIVE_SECONDS,
            ssl_certfile=tls and tls.certificate,
            ssl_keyfile=tls and tls.key,
        ),
        grpc_options=_grpc_options(chosen.grpc_port),
        controller_options=ControllerOptions(runtime_env={"env_vars": environment}),
        logging_config=QUIET,
    )
    tls_files = None if chosen.tls is None else [chosen.tls.certificate, chosen.tls.key]
    record = {"kind": chosen.ingress.kind, "why": chosen.ingress.why, "tls": tls_files}
    _internal_kv_put(INGRESS_KEY, orjson.dumps(record), overwrite=True)


def _fallback_ports(host: str) -> dict[str, str]:
    """Returns free ports for the proxy of Serve's that HAProxy asks where an application has no replica."""
    return {
        f"RAY_SERVE_FALLBACK_PROXY_{kind}_PORT": str(free_port(host, port)) for kind, port in FALLBACK_PORTS.items()
    }


def _hosts(asked: Asked) -> dict[str, Any]:
    """Returns how many hosts there are, and whether the head has what all replicas need."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    heads = [node["Resources"] for node in nodes if HEAD in node["Resources"]]
    room = any(head.get("CPU", 0) >= asked.cpus and head.get("GPU", 0) >= asked.gpus for head in heads)
    return {"hosts": len(nodes), "room": room}


def _listening(client: Any) -> Listening:
    running = ray.get(client._controller.get_grpc_config.remote())
    grpc_port = int(running.port) if GRPC_SERVICE in running.grpc_servicer_functions else None
    record: Mapping[str, Any] = orjson.loads(_internal_kv_get(INGRESS_KEY) or b"{}")
    return Listening(
        str(client.http_config.host),
        int(client.http_config.port),
        grpc_port,
        Ingress(str(record.get("kind", SERVE)), str(record.get("why", ""))),
        Tls(*record["tls"]) if record.get("tls") else None,
    )


def _checked(running: Listening, asked: Asked) -> Listening:
    wanted, has = "", ""
    if asked.grpc_port is not None and running.grpc_port is None:
        wanted, has = f"gRPC was asked for at port {asked.grpc_port}", "without it"
    elif asked.ingress not in (AUTO, running.ingress.kind):
        wanted, has = f"the ingress '{asked.ingress}' was asked for", f"behind {running.ingress.line}"
    elif asked.tls is not None and running.tls != asked.tls:
        wanted, has = "TLS was asked for", "without it" if running.tls is None else "with other files"
    if wanted:
        raise EndpointError(
            f"{wanted}, and Serve runs in this Ray cluster {has}; only its start can change that. End all endpoints "
            "(`orchestrator down`), then start this one first."
        )
    return running


def _grpc_options(port: int | None) -> gRPCOptions | None:
    if port is None:
        return None  # no port is opened
    return gRPCOptions(port=port, grpc_servicer_functions=[GRPC_SERVICE], enable_reflection=False)


def running_applications() -> set[str]:
    """Returns the names of the applications that are not being deleted; empty where Serve does not run."""
    if _client() is None:
        return set()
    applications = serve.status().applications
    return {name for name, overview in applications.items() if overview.status != "DELETING"}


def deployment_details(name: str) -> dict[str, Any]:
    """Returns what Serve knows of an application's one deployment: `deployment_config` and `replicas`, each of these
    with `state`, `node_id` (once it has a place)…; empty where there is none."""
    client = _client()
    application = {} if client is None else client.get_serve_details()["applications"].get(name, {})
    return next(iter(application.get("deployments", {}).values()), {})


def stop_serve() -> bool:
    """Ends Serve, and with it the HTTP port, unless an application is left; returns whether it ended.

    Needed only where the Ray cluster lives on. `serve.shutdown` waits inside a call to the controller, which kills
    itself meanwhile, and the raylet reports a failed call; asking without waiting leaves none to fail.
    """
    client = _client()
    if client is None or running_applications():
        return False
    client.shutdown_cached_handles()
    ray.get(client._controller.graceful_shutdown.remote(wait=False))
    deadline = time.monotonic() + SHUTDOWN_SECONDS
    while _controller_lives() and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    _internal_kv_del(INGRESS_KEY)
    serve.shutdown()  # forgets this process's client; ends the controller where it did not end by itself
    return True


def _controller_lives() -> bool:
    name, namespace = CONTROLLER
    try:
        ray.get_actor(name, namespace=namespace)
    except ValueError:
        return False
    return True


def _client() -> Any:
    """Returns Serve's client, or None where Serve does not run."""
    return _get_global_client(raise_if_no_controller_running=False)

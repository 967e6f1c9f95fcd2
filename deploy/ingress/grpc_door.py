"""Where Serve's gRPC servers listen, and whether they speak TLS.

Serve lets its gRPC proxy, and behind HAProxy each replica, listen on all addresses, in the clear, and has no option for
either. It has a hook that runs in these processes before such a server starts (`proxy.prepare`); that one puts
`add_grpc_address` of ours in the place of Serve's, which is one line. Each replica has another
such server, for calls of other deployments, which unpickles what it is sent; nobody calls an endpoint's. Read in Ray
2.60's `serve/_private/grpc_util.py` and `replica.py`; a test lists the sockets.
"""

import json
import os
from dataclasses import asdict
from typing import Any

from ray.serve._private import default_impl, replica

from deploy.access.tls import Tls
from deploy.ingress.renewal import renewing_credentials

SETTINGS = "ORCHESTRATOR_GRPC_DOOR"
WILDCARDS = ("0.0.0.0", "::")


def grpc_door_environment(host: str, tls: Tls | None) -> dict[str, str]:
    """Returns what makes Serve's gRPC servers listen on the host alone, with TLS where files are given."""
    settings = {"host": host, "tls": None if tls is None else asdict(tls)}
    return {SETTINGS: json.dumps(settings)}


def close() -> None:
    """Has this process's gRPC servers listen as the environment says, where it says something."""
    if SETTINGS in os.environ:
        default_impl.add_grpc_address = add_address


def close_replica(is_private: bool) -> None:
    """Does as `close` in a replica, whose own callback is another one; to be called before its servers start.

    Where the endpoint is private its server for calls of other deployments listens on loopback, too.
    """
    close()
    if not is_private:
        return
    add_port = replica.add_port_to_grpc_server

    def add_loopback(server: Any, address: str) -> int:
        return int(add_port(server, address.replace("[::]", "127.0.0.1")))

    replica.add_port_to_grpc_server = add_loopback


def add_address(server: Any, address: str) -> None:
    """Lets a gRPC server listen on the port of the address, on our host."""
    settings = json.loads(os.environ[SETTINGS])
    host = "[::]" if settings["host"] in WILDCARDS else settings["host"]
    place = f"{f'[{host}]' if ':' in host.strip('[]') and host[0] != '[' else host}:{address.rpartition(':')[2]}"
    if settings["tls"] is None:
        server.add_insecure_port(place)
        return
    server.add_secure_port(place, renewing_credentials(Tls(**settings["tls"])))

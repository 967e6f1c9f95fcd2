"""Which port an endpoint can have."""

import errno
import socket

from orchestrator.domain.errors import EndpointError

PORTS_TRIED = 200


def free_port(host: str, asked: int) -> int:
    """Returns `asked`, or the next port above it that nobody listens on; 0 asks for any.

    Between this answer and its use another process may take the port; Serve then refuses to start.

    Raises:
        EndpointError: when the host is not ours, or none of the next ports is free.
    """
    if not 0 <= asked <= 65535:
        raise EndpointError(f"There is no port {asked}; ports go from 1 to 65535, 0 takes any.")
    for port in range(asked, min(asked + PORTS_TRIED, 65536)):
        taken = _try(host, port)
        if taken:
            return taken
    raise EndpointError(f"No port from {asked} to {asked + PORTS_TRIED - 1} is free on {host}. Ask for another.")


def _try(host: str, port: int) -> int:
    """Returns the port when it can be bound, else 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT is free
        try:
            listener.bind((host, port))
        except PermissionError:
            return 0
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return 0
            raise EndpointError(f"Nothing can listen on {host} ({error}). Give an address of this host.") from error
        bound: int = listener.getsockname()[1]
        return bound

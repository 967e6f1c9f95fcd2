"""A renewed certificate, taken up by servers that go on: new connections see it, those that are open stay.

Each server looks at its files in its own way. Serve's HTTP proxy and its gRPC server do when a connection is begun.
HAProxy cannot: on each host the processes behind it look for it, and give it what they find through its admin socket.
All of them do, since any of them may be gone; the same certificate twice changes nothing.
"""

import json
import os
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import ray

from deploy.access.tls import LOOK_SECONDS, Renewal, Tls
from deploy.ingress.choice import ADMIN_SOCKET, haproxy_directory
from deploy.ingress.haproxy_door import CERTIFICATE, SETTINGS

SOCKET_SECONDS = 5.0


def renewing_context(make: Callable[..., ssl.SSLContext], *given: Any, **named: Any) -> ssl.SSLContext:
    """Returns what uvicorn's `create_ssl_context`, given as `make`, returns; handshakes have the files as they are."""
    renewal = Renewal(Tls(str(named["certfile"]), str(named["keyfile"])))
    first = latest = make(*given, **named)

    def take(certificate: bytes, key: bytes) -> None:
        nonlocal latest
        latest = make(*given, **named)

    def choose(connection: ssl.SSLObject, name: str | None, original: ssl.SSLContext) -> None:
        renewal.look(take)
        connection.context = latest

    first.sni_callback = choose
    return first


def renewing_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Returns a gRPC server's credentials, with the files as they are when a connection is begun."""
    renewal = Renewal(tls)

    def configuration(certificate: bytes, key: bytes) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(key, certificate)])

    def fetch() -> grpc.ServerCertificateConfiguration | None:
        taken: list[grpc.ServerCertificateConfiguration] = []
        renewal.look(lambda certificate, key: taken.append(configuration(certificate, key)))
        return taken[0] if taken else None  # None: as before

    first = configuration(Path(tls.certificate).read_bytes(), Path(tls.key).read_bytes())
    return grpc.dynamic_ssl_server_credentials(first, fetch)


def renew_haproxy() -> None:
    """Gives this host's HAProxy each renewed certificate, in a thread of its own, for as long as the process lives.

    Does nothing behind no HAProxy, or one without TLS. To be called in a process of Ray's.
    """
    files = json.loads(os.environ.get(SETTINGS, "{}")).get("tls")
    if files is None:
        return
    beside = haproxy_directory() / ray.get_runtime_context().get_node_id()
    args = Renewal(Tls(**files)), beside / ADMIN_SOCKET, beside / CERTIFICATE, threading.Event()
    threading.Thread(target=_renew_on, args=args, name="certificate", daemon=True).start()


def _renew_on(renewal: Renewal, admin: Path, certificate: Path, ended: threading.Event) -> None:
    while not ended.wait(LOOK_SECONDS):
        renewal.look(partial(give, admin, certificate))


def give(admin: Path, path: Path, certificate: bytes, key: bytes) -> None:
    """Gives HAProxy a certificate with its key in the place of the one that it loaded from the path.

    Raises:
        OSError: it cannot be asked, or does not take it.
    """
    both = dict.fromkeys((certificate, key))  # they may be in one file
    lines = (line for content in both for line in content.splitlines() if line.strip())  # an empty one ends it
    said = _ask(admin, f"set ssl cert {path} <<\n".encode() + b"\n".join(lines) + b"\n\n")
    said += _ask(admin, f"commit ssl cert {path}\n".encode())
    if "Success!" not in said:
        raise OSError(f"HAProxy says {said.strip()!r}")


def _ask(admin: Path, command: bytes) -> str:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(SOCKET_SECONDS)
        connection.connect(str(admin))
        connection.sendall(command)
        said = b""
        while more := connection.recv(65536):
            said += more
    return said.decode(errors="replace")

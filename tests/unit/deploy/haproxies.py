"""A real HAProxy, started through the door as Serve starts one."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from under_load import wait_until

from deploy.access.tls import Tls
from deploy.ingress import haproxy_door
from deploy.ingress.choice import haproxy_binary
from deploy.ingress.ports import free_port

GIVEN = """global
    stats socket {directory}/admin.sock mode 666 level admin
    nbthread 1
    tune.bufsize 16384
defaults
    mode http
    timeout connect 5s
    timeout server 120s
    timeout client 3600s
    retry-on conn-failure empty-response
    option redispatch 1
    option http-no-delay
frontend http_frontend
    bind 127.0.0.1:{port}
    acl is_http-digits path_beg /predict /feedback
    use_backend http-digits if is_http-digits
    default_backend default_backend
backend default_backend
    http-request return status 404
backend http-digits
    http-reuse always
    server one 127.0.0.1:{replica}
"""


@contextlib.contextmanager
def haproxy(directory: Path, replica: int, tls: Tls | None = None) -> Iterator[int]:
    """Runs HAProxy in front of the replica's port; yields its own.

    Args:
        directory: for its configuration, within one that is its alone.
        replica: who answers behind it; nobody needs to.
        tls: for its door.
    """
    port = free_port("127.0.0.1", 0)
    directory.mkdir(parents=True)
    configuration = directory / "haproxy.cfg"
    configuration.write_text(GIVEN.format(directory=directory, port=port, replica=replica))
    settings = json.dumps({"binary": haproxy_binary(), "tls": None if tls is None else asdict(tls)})
    command = [sys.executable, "-I", "-S", haproxy_door.__file__, "-db", "-f", str(configuration)]
    with subprocess.Popen(command, env=os.environ | {haproxy_door.SETTINGS: settings}) as process:
        try:
            wait_until(lambda: process.poll() is not None or _listens(port), what="HAProxy")
            assert process.poll() is None, "HAProxy did not start"
            yield port
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0

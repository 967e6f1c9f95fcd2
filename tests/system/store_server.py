"""An S3 server on this host: moto, from a venv of its own."""

import importlib.util
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
OWN = ROOT / ".venv" / "moto" / "bin" / "python"  # botocore and our pins do not agree on python-dateutil
START_SECONDS = 60


def moto_python() -> str | None:
    """Returns a Python that has moto."""
    if importlib.util.find_spec("moto") is not None:
        return sys.executable
    return str(OWN) if OWN.exists() else None


@contextmanager
def start_moto(python: str) -> Iterator[int]:
    """Runs the server with that Python; yields its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [python, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_for(port, server)
            yield port
        finally:
            server.kill()


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert server.poll() is None, "moto ended"
            assert time.monotonic() < deadline, "moto does not answer"
            time.sleep(0.1)

"""A real HAProxy behind the door, in front of replicas that end: what a client sees of them."""

import contextlib
import itertools
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from haproxies import GIVEN, haproxy

from deploy.ingress import haproxy_door
from deploy.ingress.choice import haproxy_binary

pytestmark = [
    pytest.mark.skipif(haproxy_binary() is None, reason="there is no wheel with HAProxy for this system"),
    pytest.mark.timeout(60),
]

SMALL, LARGE = b"1" * 100, b"1" * 100_000  # a request that HAProxy keeps until it is answered, and one too large for it


class Replica(socketserver.ThreadingTCPServer):
    """Answers the first requests of a connection; the next meets the end of it, as where a replica ends just then."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        self.connections = itertools.count()
        self.last = -1
        self.answers = 1  # to a connection, before the request that meets its end
        super().__init__(("127.0.0.1", 0), Connection)


class Connection(socketserver.StreamRequestHandler):
    server: Replica

    def handle(self) -> None:
        self.server.last = next(self.server.connections)
        with contextlib.suppress(ConnectionError):  # HAProxy's end of a connection for one request
            for _ in range(self.server.answers):
                if not self._read():
                    return
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            self._read()

    def _read(self) -> bool:
        """Reads one request; returns False where none came."""
        headers = {}
        if not self.rfile.readline():
            return False
        while line := self.rfile.readline().strip():
            name, _, value = line.lower().partition(b":")
            headers[name] = value.strip()
        self.rfile.read(int(headers.get(b"content-length", 0)))
        while b"transfer-encoding" in headers and (size := int(self.rfile.readline(), 16)):
            self.rfile.read(size + 2)
        return True


@pytest.fixture
def replica() -> Iterator[Replica]:
    with Replica() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def client(tmp_path: Path, replica: Replica) -> Iterator[httpx.Client]:
    """A client of a HAProxy that was started as Serve starts one."""
    with (
        haproxy(tmp_path / "h" / "n", replica.server_address[1]) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30.0) as made,
    ):
        yield made


@pytest.mark.parametrize(("path", "body"), [("/predict", SMALL), ("/predict", LARGE), ("/feedback", SMALL)])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_replica_that_ends_between_two_requests_costs_none(
    client: httpx.Client, replica: Replica, path: str, body: bytes, in_pieces: bool
) -> None:
    for _ in range(5):
        assert client.post(path, content=iter([body]) if in_pieces else body).status_code == 200
    assert replica.last == 4  # each of the five was answered once, by a connection of its own


def test_a_small_request_takes_the_connection_of_the_one_before(client: httpx.Client, replica: Replica) -> None:
    replica.answers = 5
    assert [client.post("/predict", content=SMALL).status_code for _ in range(5)] == [200] * 5
    assert replica.last == 0


def test_what_was_mended_may_be_mended_again(tmp_path: Path) -> None:
    """A start that failed reads its configuration twice."""
    once = haproxy_door.mended(GIVEN.format(directory=tmp_path, port=8000, replica=8001), errors={}, certificate=None)
    configuration = tmp_path / "haproxy.cfg"
    configuration.write_text(haproxy_door.mended(once, errors={}, certificate=None))
    checked = subprocess.run(
        [str(haproxy_binary()), "-c", "-f", str(configuration)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert configuration.read_text().count("backend http-digits:once\n") == 1

"""Replicas under many small requests, each answered in one step of the loop: nobody ever sees two of them at once."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from connections import Asking
from studies import wait_for
from under_load import Shop

from deploy import EndpointAddress, Scale, endpoint_handle, replicas_of, start_endpoint, stop_endpoint, stop_serve
from deploy.scaling import running_replicas

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.usefixtures("ray_session")]

CONNECTIONS = 4
IN_A_ROW = 32  # requests that a connection sends before it reads the answers: their client costs next to nothing
BODY = b'{"rows":[{"width":1.0,"height":2.0}]}'


@pytest.fixture
def address(ray_session: None, tmp_path: Path) -> Iterator[EndpointAddress]:
    stop_serve()
    scale = Scale(1, 2, cpus=0.1, ongoing=10 * CONNECTIONS * IN_A_ROW, down_seconds=2.0)
    yield start_endpoint("many", tmp_path / "runs", port=18520, scale=scale)
    stop_endpoint("many")
    assert stop_serve()


class ManySmall(Asking):
    """Connections that send small requests in rows, without a pause, and count the answers."""

    def __init__(self, address: EndpointAddress) -> None:
        head = f"POST /predict HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {address.token}\r\n"
        one = head.encode() + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
        super().__init__(CONNECTIONS)
        self._address, self._requests = address, one * IN_A_ROW
        self.answered, self.others = 0, 0

    def _ask(self) -> None:
        while not self.over.is_set():
            with socket.create_connection(("127.0.0.1", self._address.port), timeout=30.0) as connection:
                while not self.over.is_set() and self._row(connection):
                    pass

    def _row(self, connection: socket.socket) -> bool:
        """Sends one row; returns whether the connection goes on."""
        connection.sendall(self._requests)
        said = b""
        while said.count(b'"predictions":') < IN_A_ROW:
            more = connection.recv(65536)
            if not more:
                break
            said += more
        good = said.count(b"HTTP/1.1 200 ")
        self.answered += good
        self.others += said.count(b"HTTP/1.1 ") - good
        return good == IN_A_ROW


def test_small_requests_that_keep_a_replica_busy_bring_another_one(address: EndpointAddress, tmp_path: Path) -> None:
    endpoint_handle("many").promote(Shop(tmp_path / "bundles").make("ant"))
    assert replicas_of("many").asked == 1
    with ManySmall(address) as load:
        wait_for(lambda: running_replicas("many") == 2, "a second replica")
    assert load.answered > 1000
    assert load.others == 0
    wait_for(lambda: replicas_of("many").asked == 1, "the second one to go")

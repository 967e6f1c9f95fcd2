"""Certificates that are renewed while a server goes on: what it shows to new connections, and what it does not take."""

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import uvicorn
from authorities import Authority, shown
from haproxies import haproxy

from deploy.access import tls as tls_module
from deploy.access.tls import LOOK_SECONDS, Renewal, Tls, pinned
from deploy.ingress import proxy, renewal
from deploy.ingress.choice import ADMIN_SOCKET, haproxy_binary
from deploy.ingress.haproxy_door import CERTIFICATE


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += LOOK_SECONDS  # each look may look again
        return self.seconds


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def taken() -> list[tuple[bytes, bytes]]:
    return []


@pytest.fixture
def look(authority: Authority, taken: list[tuple[bytes, bytes]]) -> Callable[[], None]:
    """Looks once at the authority's files."""
    return partial(Renewal(authority.tls, Clock()).look, lambda *pair: taken.append(pair))


def test_a_renewed_pair_is_taken_once(
    authority: Authority, look: Callable[[], None], taken: list[tuple[bytes, bytes]]
) -> None:
    look()
    assert taken == []
    new = authority.issue()
    authority.write(*new)
    for _ in range(3):
        look()
    assert taken == [new]


def test_half_a_renewal_changes_nothing_and_is_said_once(
    authority: Authority,
    look: Callable[[], None],
    taken: list[tuple[bytes, bytes]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    certificate, key = authority.issue()
    authority.write(certificate)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            look()
    assert taken == []
    assert len(caplog.records) == 1
    assert "belong together" in caplog.text
    authority.write(key=key)
    look()
    assert taken == [(certificate, key)]


@pytest.mark.parametrize("content", [b"", b"no PEM"])
def test_what_is_no_certificate_changes_nothing(
    authority: Authority, look: Callable[[], None], taken: list[tuple[bytes, bytes]], content: bytes
) -> None:
    authority.write(certificate=content)
    look()
    Path(authority.tls.certificate).unlink()
    look()
    assert taken == []
    new = authority.issue()
    authority.write(*new)
    look()
    assert taken == [new]


def test_files_that_change_while_they_are_looked_at_are_looked_at_again(
    authority: Authority,
    look: Callable[[], None],
    taken: list[tuple[bytes, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    new, check = authority.issue(), Tls.check
    authority.write(*new)

    def meanwhile(tls: Tls) -> Tls:
        authority.write(certificate=b"half")
        return check(tls)

    monkeypatch.setattr(Tls, "check", meanwhile)
    look()
    monkeypatch.setattr(Tls, "check", check)
    assert taken == []
    authority.write(*new)
    look()
    assert taken == [new]


def test_what_could_not_be_taken_is_tried_again(authority: Authority) -> None:
    asked = []

    def take(certificate: bytes, key: bytes) -> None:
        asked.append(certificate)
        if len(asked) == 1:
            raise ConnectionRefusedError

    looking, new = Renewal(authority.tls, Clock()), authority.issue()
    authority.write(*new)
    for _ in range(3):
        looking.look(take)
    assert asked == [new[0]] * 2


def test_the_files_are_read_once_a_second_at_most(authority: Authority, taken: list[tuple[bytes, bytes]]) -> None:
    seconds = [5.0]
    looking = Renewal(authority.tls, lambda: seconds[0])
    looking.look(lambda *pair: taken.append(pair))
    new = authority.issue()
    authority.write(*new)
    looking.look(lambda *pair: taken.append(pair))
    assert taken == []
    seconds[0] += LOOK_SECONDS
    looking.look(lambda *pair: taken.append(pair))
    assert taken == [new]


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection looks, and who looks by himself does it all the time."""
    monkeypatch.setattr(tls_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(renewal, "LOOK_SECONDS", 0.01)


@pytest.fixture
def served(authority: Authority, hasty: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of uvicorn, in a process that was prepared as Serve's proxies are."""
    monkeypatch.setattr(uvicorn.config, "create_ssl_context", uvicorn.config.create_ssl_context)
    monkeypatch.setattr(uvicorn.protocols.http.auto, "AutoHTTPProtocol", uvicorn.protocols.http.auto.AutoHTTPProtocol)
    proxy.prepare()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    files = {"ssl_certfile": authority.tls.certificate, "ssl_keyfile": authority.tls.key}
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="critical", **files))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


def assert_renews(port: int, authority: Authority) -> None:
    """Asserts that new connections see renewed certificates, and the last good one in between."""
    for _ in range(2):
        before, (certificate, key) = shown(port), authority.issue()
        authority.write(certificate)
        for _ in range(3):
            assert shown(port) == before != certificate
        authority.write(key=key)
        deadline = time.monotonic() + 30
        while shown(port) != certificate:
            assert time.monotonic() < deadline, "the renewed certificate was not taken"


def test_serve_s_http_server_shows_a_renewed_certificate(served: int, authority: Authority) -> None:
    assert_renews(served, authority)


def test_a_client_that_pins_the_file_follows_it(served: int, authority: Authority) -> None:
    """It is asked by clients on its own host that stay for hours, such as a study's traffic."""
    with httpx.Client(base_url=f"https://127.0.0.1:{served}", verify=pinned(authority.tls.certificate)) as client:
        for _ in range(2):
            assert client.get("/", headers={"connection": "close"}).status_code == 200
            authority.write(*authority.issue())
        assert client.get("/", headers={"connection": "close"}).status_code == 200
        authority.write(certificate=b"")  # as the server, it goes on with the last good one
        assert client.get("/", headers={"connection": "close"}).status_code == 200


def test_serve_s_grpc_server_shows_a_renewed_certificate(authority: Authority, hasty: None) -> None:
    async def serve(started: Callable[[int], Any]) -> None:
        server = grpc.aio.server()
        port = server.add_secure_port("127.0.0.1:0", renewal.renewing_credentials(authority.tls))
        await server.start()
        await asyncio.to_thread(started, port)
        await server.stop(None)

    asyncio.run(serve(partial(assert_renews, authority=authority)))


@pytest.mark.skipif(haproxy_binary() is None, reason="there is no wheel with HAProxy for this system")
class TestHaproxy:
    @pytest.fixture
    def directory(self, tmp_path: Path) -> Path:
        return tmp_path / "h" / "n"

    @pytest.fixture
    def port(self, directory: Path, authority: Authority) -> Iterator[int]:
        with haproxy(directory, 1, authority.tls) as port:
            yield port

    def test_it_shows_a_renewed_certificate(
        self, directory: Path, port: int, authority: Authority, hasty: None
    ) -> None:
        ended = threading.Event()
        args = Renewal(authority.tls), directory / ADMIN_SOCKET, directory / CERTIFICATE, ended
        threads = [threading.Thread(target=renewal._renew_on, args=args) for _ in range(3)]  # as many processes
        for thread in threads:
            thread.start()
        assert_renews(port, authority)
        ended.set()
        for thread in threads:
            thread.join()

    @pytest.mark.parametrize("key_first", [False, True])
    def test_both_may_be_in_one_file(self, directory: Path, port: int, authority: Authority, key_first: bool) -> None:
        certificate, key = authority.issue()
        together = key + b"\n" + certificate if key_first else certificate + b"\n" + key
        renewal.give(directory / ADMIN_SOCKET, directory / CERTIFICATE, together, together)
        assert shown(port) == certificate

    def test_several_may_give_it_the_same(self, directory: Path, port: int, authority: Authority) -> None:
        new = authority.issue()
        give = partial(renewal.give, directory / ADMIN_SOCKET, directory / CERTIFICATE, *new)

        def insist(number: int) -> None:
            for _ in range(20):
                try:
                    give()
                except OSError:  # another one's transaction ended first
                    continue
                return
            raise AssertionError("HAProxy never took it")

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(insist, range(8)))
        assert shown(port) == new[0]

    def test_what_it_does_not_take_is_an_error(self, directory: Path, port: int, authority: Authority) -> None:
        before = shown(port)
        with pytest.raises(OSError, match="HAProxy says"):
            renewal.give(directory / ADMIN_SOCKET, directory / "another.pem", *authority.issue())
        with pytest.raises(OSError, match="HAProxy says"):
            renewal.give(directory / ADMIN_SOCKET, directory / CERTIFICATE, b"no PEM", b"")
        assert shown(port) == before


def test_without_haproxy_or_tls_nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    before = threading.active_count()
    for settings in ("{}", '{"binary": "haproxy", "tls": null}'):
        monkeypatch.setenv(renewal.SETTINGS, settings)
        renewal.renew_haproxy()
    assert threading.active_count() == before

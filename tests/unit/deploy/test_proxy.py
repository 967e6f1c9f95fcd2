"""Serve's own proxy holds clients to limits of a request's header; nobody else notices."""

import asyncio
from typing import Any

import pytest
from uvicorn.config import Config
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from deploy.ingress import proxy
from deploy.ingress.proxy import HEADER_BYTES, LimitedProtocol
from tests.unit.deploy.test_direct import Wire

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
READ = 64 * 1024  # what a socket gives at once


async def hello(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"hi"})


def ask(*parts: bytes, app: Any = hello, wait: Any = None) -> tuple[list[int], bool]:
    """Returns the statuses of the answers on one connection, and whether it was closed."""
    wire = Wire()

    async def go() -> bool:
        config = Config(app, lifespan="off", access_log=False, log_config=None)
        config.load()
        state = ServerState()
        connection = LimitedProtocol(config, state, {})
        connection.connection_made(wire)
        for part in parts:
            if wire.is_closed:
                break
            connection.data_received(part)
            await asyncio.sleep(0)
        while state.tasks:
            await asyncio.sleep(0.001)
        if wait is not None:
            async with asyncio.timeout(30):
                while not wait(wire):
                    await asyncio.sleep(0.001)
        is_closed = wire.is_closed
        connection.connection_lost(None)
        return is_closed

    is_closed = asyncio.run(go())
    written = b"".join(wire.written)
    return [int(part.split()[0]) for part in written.split(b"HTTP/1.1 ")[1:]], is_closed


def with_header(size: int, name: bytes = b"x-a") -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + name + b": " + b"a" * size + b"\r\n\r\n"


@pytest.mark.parametrize("size", [1, 3, 1000, READ])
def test_requests_are_answered_however_they_come(size: int) -> None:
    body = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + b"b" * 100_000 if size > 100 else GET
    whole = GET + body + with_header(HEADER_BYTES - 500) + GET if size > 100 else GET + GET
    statuses, is_closed = ask(*(whole[start : start + size] for start in range(0, len(whole), size)))
    assert (set(statuses), is_closed) == ({200}, False)
    assert len(statuses) == (4 if size > 100 else 2)


@pytest.mark.parametrize("size", [HEADER_BYTES + 1, 200_000])
@pytest.mark.parametrize("piece", [1000, READ, 10**6])
@pytest.mark.parametrize("in_url", [False, True])
def test_a_header_that_is_too_large_is_refused(size: int, piece: int, in_url: bool) -> None:
    large = b"GET /" + b"a" * size + b" HTTP/1.1\r\nHost: a\r\n\r\n" if in_url else with_header(size)
    assert ask(*(large[start : start + piece] for start in range(0, len(large), piece))) == ([431], True)
    parts = [large[start : start + piece] for start in range(0, len(large), piece)]
    assert ask(GET, *parts) == ([200, 431], True)


def test_one_that_never_ends_is_refused_long_before_it_is_large() -> None:
    begun = b"GET / HTTP/1.1\r\nHost: a\r\nx-a: "
    assert ask(begun, *[b"a" * 1000] * (HEADER_BYTES // 1000 - 1)) == ([], False)
    assert ask(begun, *[b"a" * 1000] * (HEADER_BYTES // 1000 + 1)) == ([431], True)


def test_many_small_headers_are_a_large_one() -> None:
    large = b"GET / HTTP/1.1\r\n" + b"".join(b"x-%d: y\r\n" % number for number in range(10_000)) + b"\r\n"
    assert ask(large) == ([431], True)


def test_a_header_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "HEADER_SECONDS", 0.01)
    assert ask(GET[:10], wait=lambda wire: wire.is_closed) == ([408], True)
    assert ask(GET, GET[:10], wait=lambda wire: wire.is_closed) == ([200, 408], True)


def test_a_body_and_an_answer_have_no_such_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "HEADER_SECONDS", 0.001)

    async def slowly(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.05)
        await hello(scope, receive, send)

    whole = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n123"
    assert ask(whole, app=slowly) == ([200], False)


def test_a_connection_that_asks_for_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    init = LimitedProtocol.__init__

    def hurried(self: LimitedProtocol, config: Config, *given: Any) -> None:
        config.timeout_keep_alive = 0
        init(self, config, *given)

    monkeypatch.setattr(LimitedProtocol, "__init__", hurried)
    assert ask(wait=lambda wire: wire.is_closed) == ([], True)


def test_bytes_that_are_no_http_are_refused_as_ever() -> None:
    assert ask(b"\x00\x01 nothing\r\n\r\n") == ([400], True)


def test_serve_s_proxies_speak_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto, "AutoHTTPProtocol", HttpToolsProtocol)
    assert proxy.prepare() == []
    config = Config(hello, lifespan="off")
    config.load()
    assert config.http_protocol_class is LimitedProtocol

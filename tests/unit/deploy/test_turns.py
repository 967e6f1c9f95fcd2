"""Turns of the event loop while clients connect: who comes is not kept waiting, and nothing that was sent is lost."""

import asyncio
import selectors
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
import uvicorn
from test_direct import PLAIN, ROWS, Wire, app_of, request, said
from uvicorn.config import Config
from uvicorn.server import ServerState

from deploy.answering.app import EndpointApp, Plain
from deploy.bundle import Bundle
from deploy.ingress.direct import DirectProtocol
from deploy.ingress.turns import LONGEST, QUIET, Turns, turns_of

CLIENTS = 48
ANSWER_SECONDS = 0.001


@pytest.fixture
def port(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server on libuv whose every answer takes a millisecond."""
    at_once = EndpointApp.at_once

    def slowly(self: EndpointApp, plain: Plain, body: bytes) -> Any:
        time.sleep(ANSWER_SECONDS)
        return at_once(self, plain, body)

    monkeypatch.setattr(EndpointApp, "at_once", slowly)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(CLIENTS)
        config = uvicorn.Config(
            app_of(bundle), http=DirectProtocol, loop="uvloop", lifespan="off", log_config=None, access_log=False
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


def ask_together(port: int) -> tuple[int, Counter[int]]:
    """Has clients come at once that ask again as soon as they are answered.

    Returns how many answers one of them had at most when the last one had its first, and each client's status lines.
    """
    asked, statuses = Counter[socket.socket](), Counter[int]()
    with selectors.DefaultSelector() as selector:
        for _ in range(CLIENTS):
            client = socket.create_connection(("127.0.0.1", port))
            client.sendall(request())
            selector.register(client, selectors.EVENT_READ)
            asked[client] = 0
        while min(asked.values()) == 0:
            ready = selector.select(timeout=20)
            assert ready, "nobody is answered"
            for key, _ in ready:
                client = cast(socket.socket, key.fileobj)
                statuses[int(client.recv(1 << 16)[9:12])] += 1
                asked[client] += 1
                client.sendall(request())
    for client in asked:
        client.close()
    return max(asked.values()), statuses


def test_the_last_of_many_that_come_at_once_is_answered_before_the_first_was_often(port: int) -> None:
    most, statuses = ask_together(port)
    assert set(statuses) == {200}
    assert most <= CLIENTS // 4


def test_without_short_turns_it_would_not_be(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Turns, "came", lambda _: None)
    assert ask_together(port)[0] > CLIENTS // 4


# --- one connection ------------------------------------------------------------------------------------------------


def connected(bundle: Bundle, then: Callable[[DirectProtocol, Wire], Any]) -> list[Any]:
    """Returns what is answered on a connection that has just been made, so that turns are short."""
    wire = Wire()

    async def go() -> None:
        config = Config(app_of(bundle), lifespan="off", access_log=False, log_config=None)
        config.load()
        state = ServerState()
        connection = DirectProtocol(config, state, {})
        connection.connection_made(wire)
        then(connection, wire)
        for _ in range(QUIET + 2):
            await asyncio.sleep(0)
        while state.tasks:
            await asyncio.sleep(0.001)
        assert not turns_of(asyncio.get_running_loop()).are_short
        connection.connection_lost(None)

    asyncio.run(go())
    return [answer[0] for answer in said(b"".join(wire.written))]


OK = "HTTP/1.1 200 OK"


def test_a_request_waits_for_its_turn(bundle: Bundle) -> None:
    def ask(connection: DirectProtocol, wire: Wire) -> None:
        connection.data_received(PLAIN["rows"])
        assert wire.written == []

    assert connected(bundle, ask) == [OK]


def test_what_comes_meanwhile_is_answered_in_its_order(bundle: Bundle) -> None:
    def ask(connection: DirectProtocol, _: Wire) -> None:
        connection.data_received(PLAIN["rows"] + PLAIN["records"][:40])
        connection.data_received(PLAIN["records"][40:] + request(token="wrong"))

    assert connected(bundle, ask) == [OK, OK, "HTTP/1.1 401 Unauthorized"]


@pytest.mark.parametrize("ends", ["eof_received", "shutdown"])
def test_what_was_kept_is_answered_before_the_connection_ends(bundle: Bundle, ends: str) -> None:
    def ask(connection: DirectProtocol, _: Wire) -> None:
        connection.data_received(PLAIN["rows"])
        getattr(connection, ends)()

    assert connected(bundle, ask) == [OK]


def test_a_large_body_waits_for_no_turn(bundle: Bundle) -> None:
    large = request(ROWS + b" " * LONGEST)

    def ask(connection: DirectProtocol, wire: Wire) -> None:
        connection.data_received(large)
        assert connection._unread == b""

    assert connected(bundle, ask) == [OK]


def test_who_hangs_up_is_forgotten(bundle: Bundle) -> None:
    def ask(connection: DirectProtocol, wire: Wire) -> None:
        connection.data_received(PLAIN["rows"])
        connection.connection_lost(None)

    assert connected(bundle, ask) == []


def test_one_that_raises_keeps_no_other_waiting() -> None:
    async def go() -> list[int]:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        turns, done = Turns(), list[int]()
        turns.came()
        for number in range(2 * QUIET):
            turns.wait(lambda number=number: done.append(1 // number))  # the first one raises
        for _ in range(QUIET + 3):
            await asyncio.sleep(0)
        return done

    assert len(asyncio.run(go())) == 2 * QUIET - 1

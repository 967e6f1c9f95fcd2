"""Heads that are known are not parsed again, and mean no more than they meant when they were."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from uvicorn.config import Config
from uvicorn.server import ServerState

from deploy.access.keyring import Keyring
from deploy.access.named_tokens import NamedToken, Secret, TokenScope
from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.served import ModelSlot, Served
from deploy.answering.shared_app import SharedApp
from deploy.bundle import Bundle
from deploy.ingress import heads as heads_module
from deploy.ingress.direct import DirectProtocol, heads_of
from deploy.ingress.heads import Heads
from tests.unit.deploy.test_direct import Wire, request

ROW = b"[[1, 2, 3]]"


class Connection:
    """A connection to an application, on which nothing is pending between two calls."""

    def __init__(self, app: Any, state: ServerState | None = None) -> None:
        config = Config(app, lifespan="off", access_log=False, log_config=None)
        config.load()
        self.wire, self.state = Wire(), state or ServerState()
        self.protocol = DirectProtocol(config, self.state, {})
        self.protocol.connection_made(self.wire)
        self.parsed = 0
        parser = self.protocol.parser
        outer = self

        class Counting:
            def feed_data(self, data: bytes) -> None:
                outer.parsed += 1
                parser.feed_data(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(parser, name)

        self.protocol.parser = Counting()

    async def ask(self, *parts: bytes) -> list[tuple[int, bytes]]:
        """Returns the statuses and bodies of what is answered."""
        self.wire.written.clear()
        for _ in range(8):
            await asyncio.sleep(0)  # turns are short at first
        for part in parts:
            self.protocol.data_received(part)
        while self.state.tasks:
            await asyncio.sleep(0.001)
        return answers(b"".join(self.wire.written))


def answers(written: bytes) -> list[tuple[int, bytes]]:
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        (length,) = (int(line.split(b": ")[1]) for line in head.split(b"\r\n") if line.startswith(b"content-length"))
        found.append((int(head.split()[1]), rest[:length]))
        written = rest[length:]
    return found


def app_of(bundle: Bundle, name: str = "digits", **named: Any) -> EndpointApp:
    slot = ModelSlot()
    slot.put(Served(bundle, 3, 3))
    return EndpointApp(AppSettings(name, "secret"), slot, **named)


def test_a_head_is_parsed_once_for_all_connections(bundle):
    app = app_of(bundle)

    async def go() -> None:
        first = Connection(app)
        second = Connection(app, first.state)
        said = [(await first.ask(request(ROW)))[0] for _ in range(3)]
        said.append((await second.ask(request(ROW)))[0])
        assert [status for status, _ in said] == [200] * 4
        assert len({orjson.loads(body)["probabilities"][0][0] for _, body in said}) == 1
        assert len({orjson.loads(body)["id"] for _, body in said}) == 4
        assert (first.parsed, second.parsed) == (1, 0)
        assert app.counts.answered == 4
        await second.ask(request(b"[[3, 2, 1]]"))  # another body, as long
        assert second.parsed == 0
        await second.ask(request(b"[[3, 2, 10]]"))
        assert second.parsed == 1

    asyncio.run(go())


@pytest.mark.parametrize(
    ("body", "status"), [(b"[[1, 2, x]]", 400), (b"[[1, 2,'']]", 400), (b'[[1, 2,""]]', 422), (b"[[1,   2]] ", 422)]
)
def test_a_wrong_body_behind_a_known_head_is_refused_in_the_usual_way(bundle, body, status):
    async def go() -> None:
        connection = Connection(app_of(bundle))
        await connection.ask(request(ROW))
        (refused,) = await connection.ask(request(body))
        assert (refused[0], connection.parsed) == (status, 2)
        assert b"error" in refused[1]
        assert [(await connection.ask(request(ROW)))[0][0] for _ in range(2)] == [200, 200]
        assert connection.parsed == 3  # uvicorn had the connection in between

    asyncio.run(go())


def test_a_known_head_opens_nothing_when_its_token_does_not(bundle):
    now = [0.0]
    until = datetime.fromtimestamp(100, UTC)

    def reader(scope: TokenScope) -> NamedToken:
        return NamedToken("reader", frozenset({scope}), until, datetime.fromtimestamp(0, UTC), (Secret.of("other"),))

    keyring = Keyring("secret", [reader(TokenScope.PREDICT)], clock=lambda: now[0])
    app = app_of(bundle, keyring=keyring)

    async def go() -> None:
        connection = Connection(app)
        asked = request(ROW, token="other")
        assert [(await connection.ask(asked))[0][0] for _ in range(2)] == [200, 200]
        now[0] = 100.0
        ((status, said),) = await connection.ask(asked)
        assert (status, b"expired" in said) == (401, True)
        now[0] = 0.0
        assert (await connection.ask(asked))[0][0] == 200
        keyring.put("secret")
        assert (await connection.ask(asked))[0][0] == 401
        keyring.put("secret", [reader(TokenScope.METRICS)])
        assert (await connection.ask(asked))[0][0] == 403

    asyncio.run(go())


def test_requests_behind_each_other_and_in_pieces_are_answered_in_their_order(bundle):
    async def go() -> None:
        connection = Connection(app_of(bundle))
        known, other = request(ROW), request(b"[[1, 2]]")
        for _ in range(2):
            assert [status for status, _ in await connection.ask(known + known)] == [200, 200]
            assert [status for status, _ in await connection.ask(known + other + known)] == [200, 422, 200]
            assert [status for status, _ in await connection.ask(known, known[:40], known[40:], known)] == [200] * 3
            assert [status for status, _ in await connection.ask(known[:-3], known[-3:] + known[:9], known[9:])] == [
                200,
                200,
            ]

    asyncio.run(go())


def test_what_is_no_head_by_itself_is_not_taken_for_one(bundle):
    """An empty line before a request is skipped by the parser, and a head may end its lines with a line feed alone."""

    async def go() -> None:
        connection = Connection(app_of(bundle))
        for _ in range(2):
            assert [status for status, _ in await connection.ask(b"\r\n\r\n" + request(ROW))] == [200]
        assert connection.parsed == 2
        inner = b"[[1,\r\n\r\n2, 3]]"
        bare = request(inner).replace(b"\r\n", b"\n").replace(b"[[1,\n\n2, 3]]", inner)
        assert [status for status, _ in await Connection(app_of(bundle)).ask(bare)] == [400]

    asyncio.run(go())
    assert Heads.came(b"\r\n\r\n" + request(ROW)) is None
    assert Heads.came(request(ROW)[:30]) is None


def test_the_heads_of_an_application_that_went_away_are_forgotten(bundle):
    own, other = app_of(bundle), app_of(bundle, "plans")
    shared = SharedApp(own)
    shared.put({"plans": other})
    asked = request(ROW, line="POST /plans/predict HTTP/1.1")

    async def go() -> None:
        connection = Connection(shared)
        assert [(await connection.ask(asked))[0][0] for _ in range(3)] == [200] * 3
        assert connection.parsed == 1
        shared.put({})
        ((status, _),) = await connection.ask(asked)
        assert status == 404
        await connection.ask(request(ROW))
        assert not [head for head in heads_of(connection.state)._known.values() if head.app is other]

    asyncio.run(go())
    assert other.counts.answered == 3


def test_no_more_heads_are_held_than_there_is_room_for(bundle, monkeypatch):
    monkeypatch.setattr(heads_module, "MOST", 5)
    app = app_of(bundle)

    async def go() -> None:
        connection = Connection(app)
        for number in range(12):
            assert (await connection.ask(request(ROW, f"X-Request-Id: {number}")))[0][0] == 200
        for refused in (request(ROW, token="wrong"), request(b"{"), request(ROW, "X-Routing-Key: me")):
            await connection.ask(refused)
        known = heads_of(connection.state)._known
        assert 0 < len(known) <= 5
        assert b"secret" not in repr(known).encode()

    asyncio.run(go())


def test_a_client_that_is_slow_to_read_gets_no_more_than_it_takes(bundle):
    async def go() -> None:
        connection = Connection(app_of(bundle))
        await connection.ask(request(ROW))
        connection.protocol.pause_writing()
        connection.protocol.data_received(request(ROW))
        await asyncio.sleep(0.01)
        assert (connection.parsed, len(connection.wire.written)) == (2, 1)
        connection.protocol.resume_writing()
        while connection.state.tasks:
            await asyncio.sleep(0.001)
        assert [status for status, _ in answers(b"".join(connection.wire.written))][-1] == 200

    asyncio.run(go())

"""The shortest way into the application: plain requests take it, and all are answered as uvicorn has them answered."""

import asyncio
import re
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from uvicorn.config import Config
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from deploy.answering.app import INLINE_BYTES, AppSettings, EndpointApp, Plain
from deploy.answering.call_cost import CallCost
from deploy.answering.served import Contender, ModelSlot, Served
from deploy.answering.shared_app import SharedApp
from deploy.answering.tally import Tally
from deploy.bundle import Bundle
from deploy.ingress.direct import DirectProtocol, front_of
from deploy.ingress.shortcut import middlewares

ROWS = orjson.dumps([[1, 2, 3], [4, 5, 6]])


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 5), "sockname": ("127.0.0.1", 80)})
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def request(body: bytes = ROWS, *more: str, line: str = "POST /predict HTTP/1.1", token: str = "secret") -> bytes:
    head = [line, "Host: here", f"Authorization: Bearer {token}", "Content-Type: application/json", *more]
    if not any(each.startswith(("Content-Length", "Transfer-Encoding")) for each in more):
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


def app_of(bundle: Bundle, **settings: Any) -> EndpointApp:
    slot = ModelSlot()
    slot.put(Served(bundle, 3, 3))
    return EndpointApp(AppSettings("digits", "secret", **settings), slot)


def ask(kind: type[HttpToolsProtocol], app: Any, *parts: bytes) -> tuple[list[Any], bool]:
    """Returns what is answered on one connection, without ids, and whether it was closed."""
    wire = Wire()

    async def go() -> None:
        config = Config(app, lifespan="off", access_log=False, log_config=None)
        config.load()
        state = ServerState()
        connection = kind(config, state, {})
        connection.connection_made(wire)
        for part in parts:
            connection.data_received(part)
            await asyncio.sleep(0)
        while state.tasks:
            await asyncio.sleep(0.001)
        connection.connection_lost(None)

    asyncio.run(go())
    return said(b"".join(wire.written)), wire.is_closed


def said(written: bytes) -> list[Any]:
    """Returns the answers on the wire: status line, headers and body, of which each id is taken out."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        status, *headers = head.decode().split("\r\n")
        pairs = dict(line.split(": ", 1) for line in headers)
        length = int(pairs.pop("content-length", "0"))
        identity = pairs.pop("x-answer-id", None)
        body, written = rest[:length].decode("latin-1"), rest[length:]
        found.append((status, pairs, body if identity is None else body.replace(identity, "ID"), identity is None))
    return found


TENSORS = {"inputs": [{"name": "rows", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}


def tensors(*more: str, given: Any = TENSORS, path: str = "/v2/models/digits/infer") -> bytes:
    return request(orjson.dumps(given), *more, line=f"POST {path} HTTP/1.1")


PLAIN = {
    "rows": request(),
    "records": request(b'{"rows": [[1, 2, 3]]}', "Accept: application/json"),
    "columns": request(b'{"columns": {"width": [1], "height": [2], "depth": [3]}}', "Accept: */*"),
    "chunked": request(b"%x\r\n%s\r\n0\r\n\r\n" % (len(ROWS), ROWS), "Transfer-Encoding: chunked"),
    "behind a proxy": request(ROWS, "X-Forwarded-For: 10.0.0.1", "X-Request-Id: 4"),
    "tensors": tensors(),
    "tensors with an id": tensors(given={"id": "7", **TENSORS}),
    "tensors, of which some are asked for": tensors(given={**TENSORS, "outputs": [{"name": "predictions"}]}),
    "tensors without a media type": tensors().replace(b"Content-Type: application/json\r\n", b""),
    "tensors asked for in bytes": tensors(given={**TENSORS, "parameters": {"binary_data_output": True}}),
}
OTHERS = {
    "no token": request(token="other"),
    "no json": request(b"{"),
    "a wrong column": request(b'[{"x": 1}]'),
    "a wrong cell": request(b'[[1, 2, "x"]]'),
    "a key": request(b'{"rows": [[1, 2, 3]], "key": "me"}'),
    "a key in a header": request(ROWS, "X-Routing-Key: me"),
    "a wrong key": request(ROWS, "X-Routing-Key: " + "k" * 2000),
    "csv wanted": request(ROWS, "Accept: text/csv"),
    "nothing of ours wanted": request(ROWS, "Accept: image/png"),
    "csv sent": request(b"a,b,c\n1,2,3\n").replace(b"application/json", b"text/csv"),
    "a deadline that is over": request(ROWS, "X-Request-Timeout-Ms: 0"),
    "a wrong deadline": request(ROWS, "X-Request-Timeout-Ms: soon"),
    "compressed": request(ROWS, "Content-Encoding: gzip"),
    "two tokens": request(ROWS, "Authorization: Bearer other"),
    "continue": request(ROWS, "Expect: 100-continue"),
    "the last one": request(ROWS, "Connection: close"),
    "of 1996": request(line="POST /predict HTTP/1.0"),
    "get": request(b"", line="GET /predict HTTP/1.1"),
    "elsewhere": request(line="POST /elsewhere/predict HTTP/1.1"),
    "a query": request(line="POST /predict?x=1 HTTP/1.1"),
    "large": request(orjson.dumps([[1, 2, 3]] * 4000)),
    "too many rows": request(orjson.dumps([[1, 2, 3]] * 40)),
    "an empty body": request(b""),
    "tensors of a version": tensors(path="/v2/models/digits/versions/3/infer"),
    "tensors for another model": tensors(path="/v2/models/letters/infer"),
    "tensors with a key": tensors("X-Routing-Key: me"),
    "tensors in bytes": tensors("Inference-Header-Content-Length: 12"),
    "tensors of a wrong shape": tensors(given={"inputs": [{**TENSORS["inputs"][0], "shape": [3, 1]}]}),
    "tensors elsewhere": tensors(path="/v2/models/digits/v2/models/digits/infer"),
}


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request that was tried this way was answered so."""
    tried: list[bool] = []
    at_once = EndpointApp.at_once

    def noted(self: EndpointApp, plain: Plain, body: bytes) -> Any:
        answer = at_once(self, plain, body)
        tried.append(answer is not None)
        return answer

    monkeypatch.setattr(EndpointApp, "at_once", noted)
    return tried


def both(bundle: Bundle, *parts: bytes) -> list[Any]:
    """Returns what is answered; it is the same on both ways, and is counted alike."""
    ours, theirs = (app_of(bundle, max_rows=30) for _ in range(2))
    answered = ask(DirectProtocol, ours, *parts)
    assert answered == ask(HttpToolsProtocol, theirs, *parts)
    assert ours.counts == theirs.counts
    counted = [app.meter.reading()["requests"] for app in (ours, theirs)]
    assert counted[0] == counted[1]
    assert len(ours.arms.traffic.take()) == len(theirs.arms.traffic.take())
    assert (ours.admission.inside, ours.meter.in_flight) == (0, 0)
    return answered[0]


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_request_is_answered_at_once_and_alike(bundle, direct, name):
    (answer,) = both(bundle, PLAIN[name])
    assert answer[0] == "HTTP/1.1 200 OK"
    assert direct == [True]


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_request_is_answered_as_uvicorn_has_it_answered(bundle, direct, name):
    assert both(bundle, OTHERS[name])
    assert True not in direct


@pytest.mark.parametrize("size", [1, 7, 60, 150])
def test_a_request_that_comes_in_pieces_is_answered_alike(bundle, size):
    whole = PLAIN["rows"] + OTHERS["a wrong cell"] + PLAIN["records"]
    answers = both(bundle, *(whole[start : start + size] for start in range(0, len(whole), size)))
    assert [answer[0].split()[1] for answer in answers] == ["200", "422", "200"]


def test_requests_that_follow_each_other_are_answered_in_their_order(bundle, direct):
    several = [PLAIN["rows"], OTHERS["csv wanted"], PLAIN["records"], OTHERS["no token"], PLAIN["rows"]]
    answers = both(bundle, b"".join(several))
    assert [answer[0].split()[1] for answer in answers] == ["200", "200", "200", "401", "200"]
    assert direct[0] is True
    assert both(bundle, *several) == answers


def test_bytes_that_are_no_http_are_refused_alike(bundle):
    assert both(bundle, PLAIN["rows"], b"\x00\x01 nothing\r\n\r\n")[-1][0] == "HTTP/1.1 400 Bad Request"


def test_a_challenger_s_share_is_kept(bundle, direct):
    app = app_of(bundle)
    champion = Served(bundle, 3, 3)
    rollout = Contender(Served(bundle, 4, 4), number=4, weight=1.0, tally=Tally(1.0))
    app.slot.put(replace(champion, generation=4, contender=rollout))
    answers, _ = ask(DirectProtocol, app, PLAIN["rows"])
    assert answers[0][1]["x-model-version"] == "4"
    assert direct == [False]


def test_requests_that_share_a_call_wait_for_each_other(bundle, direct):
    app = app_of(bundle)
    app.slot.put(Served(bundle, 3, 4, cost=CallCost(200e-6, 1e-6)))
    answers, _ = ask(DirectProtocol, app, PLAIN["rows"] + PLAIN["rows"])
    assert [answer[0] for answer in answers] == ["HTTP/1.1 200 OK"] * 2
    assert direct == [True, False]


def test_no_model_and_a_model_that_fails_are_said_in_the_usual_way(bundle, direct, monkeypatch):
    app = EndpointApp(AppSettings("digits", "secret"), ModelSlot())
    assert ask(DirectProtocol, app, PLAIN["rows"])[0][0][0].startswith("HTTP/1.1 503")

    def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Bundle, "predict", fail)
    app = app_of(bundle)
    assert ask(DirectProtocol, app, PLAIN["rows"])[0][0][0].startswith("HTTP/1.1 500")
    assert (app.counts.failed, app.counts.answered, app.admission.inside) == (1, 0, 0)
    assert direct == [False, False]


def test_a_body_that_never_comes_is_given_up(bundle):
    app = app_of(bundle, body_seconds=0.05)
    answers, _ = ask(DirectProtocol, app, PLAIN["rows"][:-3])
    assert answers[0][0].startswith("HTTP/1.1 408")


class Behind:
    """As the shortcut stands before an application."""

    def __init__(self, app: EndpointApp | SharedApp | None, prefix: str) -> None:
        self._found = None if app is None else (app, prefix)
        self.asked: list[str] = []

    def behind(self) -> Any:
        return self._found

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize(("prefix", "path"), [("/", "/predict"), ("", "/predict"), ("/digits", "/digits/predict")])
def test_the_application_below_a_prefix_is_found(bundle, direct, prefix, path):
    front = Behind(app_of(bundle), prefix)
    answers, _ = ask(DirectProtocol, front, request(line=f"POST {path} HTTP/1.1"), request(line="POST /x HTTP/1.1"))
    assert [answer[0].split()[1] for answer in answers] == ["200", "404"]
    assert (front.asked, direct) == (["/x"], [True])
    lost = Behind(None, prefix)
    ask(DirectProtocol, lost, request(line=f"POST {path} HTTP/1.1"))
    assert lost.asked == [path]


def test_the_models_that_share_a_replica_are_found_by_their_paths(bundle, direct):
    own, other = app_of(bundle), EndpointApp(AppSettings("plans", "theirs"), app_of(bundle).slot)
    shared = SharedApp(own)
    shared.put({"plans": other})
    tensor = {"name": "rows", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}
    infer = orjson.dumps({"inputs": [tensor]})
    asked = [
        request(),
        request(line="POST /plans/predict HTTP/1.1", token="theirs"),
        request(infer, line="POST /v2/models/plans/infer HTTP/1.1", token="theirs"),
        request(infer, line="POST /plans/v2/models/plans/infer HTTP/1.1", token="theirs"),
        request(line="POST /plans/predict HTTP/1.1"),  # the other one's token
    ]
    answers, _ = ask(DirectProtocol, Behind(shared, "/"), *asked)
    assert [answer[0].split()[1] for answer in answers[:4]] == ["200"] * 4
    assert direct == [True] * 4 + [False]
    assert (own.counts.answered, other.counts.answered) == (1, 3)


def test_serve_s_servers_speak_it(monkeypatch):
    monkeypatch.setattr(auto, "AutoHTTPProtocol", HttpToolsProtocol)
    middlewares()
    config = Config(lambda: None, factory=True, lifespan="off")
    config.load()
    assert config.http_protocol_class is DirectProtocol
    assert front_of(object()) is None


def test_an_answer_is_one_write(bundle):
    """Of a head without its body, a client of a replica that dies between them has no use, and no proxy asks again."""
    wire = Wire()
    config = Config(app_of(bundle), lifespan="off", access_log=False, log_config=None)
    config.load()

    async def go() -> None:
        connection = DirectProtocol(config, ServerState(), {})
        connection.connection_made(wire)
        connection.data_received(PLAIN["rows"])
        await asyncio.sleep(0)
        connection.connection_lost(None)

    asyncio.run(go())
    assert len(wire.written) == 1
    assert re.search(rb"x-answer-id: [\w-]+\r\n", wire.written[0])
    assert np.isclose(sum(orjson.loads(wire.written[0].partition(b"\r\n\r\n")[2])["probabilities"][0]), 1.0)


def test_what_is_large_here_is_large_there():
    assert len(ROWS) < INLINE_BYTES < len(OTHERS["large"])


@pytest.mark.parametrize("asked", [request(), request(b"{")], ids=["at once", "by uvicorn"])
def test_a_connection_is_closed_when_nothing_came_for_long_and_not_before(bundle: Bundle, asked: bytes) -> None:
    wire = Wire()

    async def go() -> None:
        config = Config(app_of(bundle), lifespan="off", access_log=False, log_config=None)
        config.load()
        state = ServerState()
        connection = DirectProtocol(config, state, {})
        connection.connection_made(wire)
        connection.timeout_keep_alive = 3600
        for _ in range(2):
            connection.data_received(asked)
            while state.tasks:
                await asyncio.sleep(0.001)
            connection.timeout_keep_alive_handler()  # the timer of a request before this one
            assert not wire.is_closed
        connection.data_received(asked[:20])
        connection.timeout_keep_alive = 0
        connection.timeout_keep_alive_handler()
        assert not wire.is_closed  # a request is coming
        connection.data_received(asked[20:])
        async with asyncio.timeout(30):
            while not wire.is_closed:
                await asyncio.sleep(0.001)
        connection.connection_lost(None)

    asyncio.run(go())

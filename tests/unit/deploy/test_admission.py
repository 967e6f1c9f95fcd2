"""What a replica does not begin: too many requests at once, those whose time is over, those whose client has gone."""

import asyncio
import logging
import time
from typing import Any

import httpx
import orjson
import pytest

from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.served import ModelSlot, Served
from deploy.bundle import Bundle
from deploy.client import Client
from deploy.http.admission import Admission
from deploy.http.asgi import Refusal, held_bytes
from deploy.http.deadline import check_deadline, deadline_of

BODY = orjson.dumps([[1, 2, 3]])


@pytest.fixture
def slot(bundle: Bundle) -> ModelSlot:
    slot = ModelSlot()
    slot.put(Served(bundle, 3, 3))
    return slot


def scope_of(size: int | None = len(BODY), **headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    length = [] if size is None else [(b"content-length", str(size).encode())]
    return {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "headers": [(b"authorization", b"Bearer secret"), *length, *pairs],
    }


async def answer_of(app: EndpointApp, scope: dict[str, Any], receive: Any) -> tuple[int, dict[bytes, bytes], Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"]), orjson.loads(sent[1]["body"])


async def whole_body() -> dict[str, Any]:
    return {"type": "http.request", "body": BODY, "more_body": False}


def test_one_request_too_many_is_told_at_once_when_to_come_back(slot):
    app = EndpointApp(AppSettings("digits", "secret", most_waiting=2), slot)

    async def ask() -> None:
        bodies = asyncio.Event()

        async def slow_body() -> dict[str, Any]:
            await bodies.wait()
            return await whole_body()

        waiting = [asyncio.ensure_future(answer_of(app, scope_of(), slow_body)) for _ in range(2)]
        while app.admission.inside < 2:
            await asyncio.sleep(0)
        status, headers, said = await answer_of(app, scope_of(), whole_body)
        assert (status, headers[b"retry-after"], "2 requests wait" in said["error"]) == (429, b"1", True)
        live, _, _ = await answer_of(app, {**scope_of(), "method": "GET", "path": "/v2/health/live"}, whole_body)
        assert live == 200
        bodies.set()
        assert [status for status, _, _ in await asyncio.gather(*waiting)] == [200, 200]
        assert (await answer_of(app, scope_of(), whole_body))[0] == 200

    asyncio.run(ask())
    assert (app.counts.answered, app.counts.refused, app.counts.failed) == (4, 1, 0)
    assert app.admission.inside == 0


def test_bodies_are_bounded_together_and_one_alone_is_not():
    admission = Admission(most=10, most_bytes=100)
    admission.enter(150)
    with pytest.raises(Refusal, match="1 requests wait"):
        admission.enter(1)
    admission.leave(150)
    for _ in range(4):
        admission.enter(25)
    with pytest.raises(Refusal) as refused:
        admission.enter(1)
    assert refused.value.status == 429
    admission.leave(25)
    admission.enter(25)


def test_a_body_without_a_length_counts_as_the_largest():
    assert held_bytes(scope_of(None), 1000) == 1000
    assert held_bytes(scope_of(10), 1000) == 10
    assert held_bytes(scope_of(5000), 1000) == 1000
    assert held_bytes(scope_of(None, content_length="9" * 5000), 1000) == 1000
    assert held_bytes(scope_of(None, content_length="-1"), 1000) == 1000


def test_a_length_of_thousands_of_digits_is_too_large(slot):
    app = EndpointApp(AppSettings("digits", "secret"), slot)
    status, _, said = asyncio.run(answer_of(app, scope_of(None, content_length="9" * 5000), whole_body))
    assert (status, "larger than" in said["error"]) == (413, True)


def test_the_client_comes_back_when_it_is_told_to():
    pauses: list[float] = []
    answers = [
        httpx.Response(429, json={"error": "busy"}, headers={"retry-after": "1"}),
        httpx.Response(200, json={"predictions": [1], "version": "3", "study": "digits", "trial": 1}),
    ]
    client = Client("http://endpoint", "secret", pause=pauses.append)
    client._http = httpx.Client(transport=httpx.MockTransport(lambda _: answers.pop(0)))
    assert client.predict([[1]]).predictions == (1,)
    assert pauses == [1.0]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x_request_timeout_ms": "250"}, 0.25),
        ({"x_request_timeout_ms": "0.5"}, 0.0005),
        ({"grpc_timeout": "2S"}, 2.0),
        ({"grpc_timeout": "1500m"}, 1.5),
        ({"grpc_timeout": "3H"}, 10800.0),
        ({"x_request_timeout_ms": "1000", "grpc_timeout": "9S"}, 1.0),
    ],
)
def test_a_deadline_counts_from_now(headers, seconds):
    before = time.monotonic()
    deadline = deadline_of(scope_of(**headers))
    assert before + seconds <= deadline <= time.monotonic() + seconds


def test_without_a_header_there_is_no_deadline():
    assert deadline_of(scope_of()) is None
    check_deadline(None)
    check_deadline(time.monotonic() + 60)


@pytest.mark.parametrize(
    "headers",
    [
        {"x_request_timeout_ms": "soon"},
        {"x_request_timeout_ms": "-1"},
        {"x_request_timeout_ms": "1e9"},
        {"x_request_timeout_ms": ""},
        {"grpc_timeout": "5"},
        {"grpc_timeout": "999999999S"},
        {"grpc_timeout": "S"},
    ],
)
def test_a_header_that_says_no_time_is_refused(slot, headers):
    app = EndpointApp(AppSettings("digits", "secret"), slot)
    status, _, said = asyncio.run(answer_of(app, scope_of(**headers), whole_body))
    assert (status, "imeout" in said["error"]) == (400, True)
    assert app.admission.inside == 0


def test_a_request_whose_time_is_over_when_its_body_has_come_is_not_computed(slot, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("it was computed")

    monkeypatch.setattr(Bundle, "score", never)
    app = EndpointApp(AppSettings("digits", "secret"), slot)
    for _ in range(8):  # among them requests whose time is taken
        status, _, said = asyncio.run(answer_of(app, scope_of(x_request_timeout_ms="0"), whole_body))
        assert (status, "nothing was computed" in said["error"]) == (504, True)
    assert (app.counts.refused, app.counts.failed) == (8, 0)


def test_a_client_that_went_away_is_no_failure_of_ours(slot, caplog):
    class ProxyDied(Exception):
        """As Ray raises when the process that has the body is gone."""

    async def lost() -> dict[str, Any]:
        raise ProxyDied("the actor died")

    async def closed() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    app = EndpointApp(AppSettings("digits", "secret"), slot)
    with caplog.at_level(logging.WARNING):
        for receive in (lost, closed):
            status, _, said = asyncio.run(answer_of(app, scope_of(), receive))
            assert (status, "before the whole body had come" in said["error"]) == (400, True)
    assert (app.counts.answered, app.counts.refused, app.counts.failed) == (0, 2, 0)
    assert caplog.records == []
    assert app.admission.inside == 0

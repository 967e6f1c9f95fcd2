"""Bodies that do not come: given up, without a word to those that do."""

import asyncio
import json

import pytest

from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.served import ModelSlot, Served
from deploy.http.asgi import read_body
from deploy.http.patience import Patience

SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/predict",
    "headers": [(b"authorization", b"Bearer secret"), (b"content-type", b"application/json")],
}


@pytest.fixture
def app(bundle):
    slot = ModelSlot()
    slot.put(Served(bundle, version=3, generation=3))
    return EndpointApp(AppSettings("digits", "secret", body_seconds=0.05), slot)


async def answer(app, receive):
    """Returns the status and the body of the answer to a request whose body `receive` gives."""
    sent = []

    async def send(message):
        sent.append(message)

    await app(dict(SCOPE), receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


async def never():
    await asyncio.Event().wait()


def piece(body, more):
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_that_does_not_come_is_refused_and_others_are_answered_meanwhile(app):
    async def at_once():
        return piece(b"[[1, 2, 3]]", more=False)

    async def stops():
        nonlocal left
        if left:
            left -= 1
            return piece(b"[", more=True)
        return await never()

    left = 2

    async def both():
        slow, stopped = asyncio.create_task(answer(app, never)), asyncio.create_task(answer(app, stops))
        prompt = []
        while not (slow.done() and stopped.done()):
            prompt.append((await answer(app, at_once))[0])
            await asyncio.sleep(0)
        return await slow, await stopped, prompt

    slow, stopped, prompt = asyncio.run(both())
    assert slow == stopped == (408, {"error": "The body did not come within 0.05 s."})
    assert set(prompt) == {200}
    assert app.meter.in_flight == 0


def test_the_next_body_has_its_own_time(app):
    for _ in range(2):
        assert asyncio.run(answer(app, never))[0] == 408


def test_a_task_that_somebody_else_cancels_is_cancelled():
    patience = Patience(60.0)

    async def cancelled():
        task = asyncio.create_task(read_body(SCOPE, never, 10, patience))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert patience._since == {}

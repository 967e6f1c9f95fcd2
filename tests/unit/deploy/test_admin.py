"""What is asked below `/admin`, before anybody decides. The decisions themselves: tests/ray/test_doors.py."""

import asyncio
import json

import httpx
import pytest

from deploy.admin import AdminDesk
from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.desk import MAX_BODY_BYTES, Wish, parse_wish
from deploy.answering.served import ModelSlot
from deploy.http.asgi import Refusal
from deploy.monitoring.metrics import Reading, Standing
from deploy.places import journal_directory
from orchestrator.journal import open_journal


@pytest.mark.parametrize(
    ("action", "body", "wish"),
    [
        ("promote", b'{"version": 4, "why": "fine", "endpoint": "digits"}', Wish(4, "fine")),
        ("promote", b'{"version": 4, "canary": 12.5}', Wish(4, canary=0.125)),
        ("rollback", b"", Wish()),
        ("rollback", b'{"version": 2}', Wish(2)),
        ("freeze", b" ", Wish()),
        ("unfreeze", '{"why": "Ostern ist vorüber"}'.encode(), Wish(None, "Ostern ist vorüber")),
    ],
)
def test_a_body_says_what_is_wished(action, body, wish):
    assert parse_wish(body, action, "digits") == wish


@pytest.mark.parametrize(
    ("action", "body", "status", "why"),
    [
        ("promote", "", 422, "'version' has to be the number of a version"),
        ("promote", {"version": 0}, 422, "it is 0"),
        ("promote", {"version": -1}, 422, "it is -1"),
        ("promote", {"version": True}, 422, "it is True"),
        ("promote", {"version": 1.5}, 422, "it is 1.5"),
        ("promote", {"version": "4"}, 422, "it is '4'"),
        ("promote", {"version": 1, "canary": 100.1}, 422, "from 0 (the shadow) to 100; it is 100.1"),
        ("promote", {"version": 1, "canary": -1}, 422, "it is -1"),
        ("promote", {"version": 1, "canary": "10%"}, 422, "it is '10%'"),
        ("promote", {"version": 1, "canary": True}, 422, "it is True"),
        ("rollback", {"version": 1, "canary": 5}, 422, "/admin/rollback does not take 'canary'"),
        ("rollback", {"version": [1]}, 422, "it is [1]"),
        ("freeze", {"version": 1}, 422, "/admin/freeze does not take 'version'"),
        ("freeze", {"why": 3}, 422, "'why' has to be one line"),
        ("freeze", {"why": "a\nb"}, 422, "'why' has to be one line"),
        ("freeze", {"why": "\x1b[31mred"}, 422, "'why' has to be one line"),
        ("freeze", {"why": "x" * 501}, 422, "at most 500"),
        ("freeze", [], 422, "has to be an object"),
        ("freeze", {"endpoint": "other"}, 404, "This is the endpoint 'digits', not 'other'"),
        ("freeze", "{", 400, "JSON"),
        ("freeze", '{"why": NaN}', 400, "JSON"),
    ],
)
def test_what_cannot_be_wished_is_refused_by_name(action, body, status, why):
    raw = body if isinstance(body, str) else json.dumps(body)
    with pytest.raises(Refusal) as raised:
        parse_wish(raw.encode(), action, "digits")
    assert (raised.value.status, why in raised.value.reason) == (status, True), raised.value.reason


@pytest.fixture
def ask(tmp_path):
    open_journal(journal_directory(tmp_path, "digits")).close()
    app = EndpointApp(
        AppSettings("digits", "secret"),
        ModelSlot(),
        desk=AdminDesk(tmp_path, "digits", lambda: Reading(Standing("a1", 1, 2.0), app.meter.reading())),
    )

    async def send(method, path, **given):
        transport = httpx.ASGITransport(app)
        headers = {"authorization": "Bearer secret"}
        async with httpx.AsyncClient(transport=transport, base_url="http://endpoint", headers=headers) as client:
            return await client.request(method, path, **given)

    return lambda method, path, **given: asyncio.run(send(method, path, **given))


def test_without_a_cluster_there_is_the_history_and_nobody_to_decide(ask):
    assert ask("GET", "/admin/history").json() == {"endpoint": "digits", "events": [], "labels": {}}
    for method, path in (("GET", "/admin/status"), ("POST", "/admin/freeze")):
        answer = ask(method, path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def test_paths_methods_and_sizes_are_checked(ask):
    assert ask("GET", "/admin/promote").status_code == 405
    assert ask("POST", "/admin/status").status_code == 405
    assert ask("POST", "/admin/destroy").status_code == 404
    assert ask("POST", "/admin/freeze", content=b" " * (MAX_BODY_BYTES + 1)).status_code == 413


def test_a_replica_without_its_endpoint_actor_has_its_own_numbers(ask):
    answer = ask("GET", "/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    assert 'orchestrator_endpoint_actor_up{endpoint="digits"} 0.0' in answer.text
    assert 'orchestrator_endpoint_in_flight_requests{endpoint="digits",replica="a1"} 1.0' in answer.text

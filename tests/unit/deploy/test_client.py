import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import uvicorn
from plans import write

import deploy
from deploy import Client, EndpointAddress
from deploy.access.tokens import ensure_token
from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.served import ModelSlot, Served
from deploy.bundle import Bundle
from deploy.client import RequestRefused
from deploy.formats.sent_rows import CsvRows
from deploy.ingress.ports import free_port
from orchestrator.domain.errors import EndpointError

ANSWER = {"predictions": [1], "probabilities": [[0.1, 0.9]], "version": "3", "study": "digits", "trial": 12}


def client_of(handler: Any, pauses: list[float] | None = None, **settings: Any) -> Client:
    client = Client("http://endpoint/digits/", "secret", pause=([] if pauses is None else pauses).append, **settings)
    client._http = httpx.Client(transport=httpx.MockTransport(handler), headers=client._http.headers)
    return client


def after(*failures: Exception | httpx.Response) -> Any:
    """A handler that fails so often and in this way, and then answers; `calls` counts."""
    given = [*failures, httpx.Response(200, json=ANSWER)]

    def handler(request: httpx.Request) -> httpx.Response:
        handler.calls += 1
        outcome = given.pop(0) if len(given) > 1 else given[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    handler.calls = 0
    return handler


def busy(status: int, wait: str | None = None) -> httpx.Response:
    return httpx.Response(status, json={"error": "busy"}, headers={} if wait is None else {"retry-after": wait})


def test_client_sends_the_token_and_reads_who_answered():
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url == "http://endpoint/digits/predict"
        assert request.headers["authorization"] == "Bearer secret"
        assert request.headers["content-type"] == "application/json"
        assert request.content == b'{"rows":[[1.0,2.0]]}'
        return httpx.Response(200, json=ANSWER)

    with client_of(handler) as client:
        answer = client.predict(np.array([[1, 2]], dtype=np.float32))
    assert (answer.predictions, answer.probabilities) == ((1,), ((0.1, 0.9),))
    assert (answer.version, answer.study, answer.trial, answer.status) == ("3", "digits", 12, 200)
    assert answer.versions == ("3",)


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.RemoteProtocolError("closed"),
        httpx.ReadError("reset"),
        busy(429),
        busy(503),
        httpx.Response(500, text="The actor died unexpectedly before finishing this task."),
        httpx.Response(502, html="<h1>502 Bad Gateway</h1>"),
    ],
)
def test_what_may_be_asked_again_is_with_growing_pauses(failure):
    pauses: list[float] = []
    handler = after(failure, failure, failure)
    client = client_of(handler, pauses)
    assert client.predict([[1]]).trial == 12
    assert (handler.calls, client.requests, client.retried, client.failed) == (4, 1, 3, 0)
    assert all(0 <= pause <= limit for pause, limit in zip(pauses, (0.05, 0.1, 0.2), strict=True))


@pytest.mark.parametrize(("wait", "least", "most"), [("3", 3, 3), ("0", 0, 0), ("soon", 0, 0.05)])
def test_the_pause_is_what_the_endpoint_asks_for(wait, least, most):
    pauses: list[float] = []
    client_of(after(busy(503, wait)), pauses).predict([[1]])
    assert len(pauses) == 1
    assert least <= pauses[0] <= most


def test_the_endpoint_may_name_a_date():
    pauses: list[float] = []
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=8), usegmt=True)
    client_of(after(busy(429, date)), pauses).predict([[1]])
    assert 0 < pauses[0] <= 8


def test_who_is_asked_to_wait_long_is_told_so_at_once():
    pauses: list[float] = []
    with pytest.raises(EndpointError, match="status 503: busy"):
        client_of(after(busy(503, "60")), pauses).predict([[1]])
    assert pauses == []


@pytest.mark.parametrize(
    ("failure", "settings", "attempts"),
    [
        (httpx.ConnectError("refused"), {}, 4),
        (httpx.ConnectError("refused"), {"attempts": 1}, 1),
        (httpx.ReadTimeout("slow"), {}, 1),
        (httpx.WriteTimeout("slow"), {}, 1),
    ],
)
def test_an_endpoint_that_cannot_be_reached_is_an_error_with_what_to_do(failure, settings, attempts):
    handler = after(*[failure] * 9)
    client = client_of(handler, **settings)
    with pytest.raises(EndpointError, match=r"cannot be reached .* Is it running"):
        client.predict([[1]])
    assert handler.calls == attempts
    assert client.failed == 1
    assert not client.is_ready()


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (httpx.Response(422, json={"error": "Row 0 lacks"}), "status 422: Row 0 lacks"),
        (httpx.Response(502, text="bad gateway"), "status 502: bad gateway"),
        (httpx.Response(500, json=[1]), r"status 500: \[1\]"),
        (httpx.Response(413, json={"error": "too large"}), "status 413: too large"),
        (busy(503), "status 503: busy"),
        (httpx.Response(500, json={"error": "The endpoint failed"}), "status 500: The endpoint failed"),
    ],
)
def test_a_refusal_is_an_error_with_its_status_and_reason(response, reason):
    with pytest.raises(RequestRefused, match=reason) as raised:
        client_of(lambda _: response).predict([{"x": 1}])
    assert raised.value.status == response.status_code
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.reason) == (str(raised.value), raised.value.reason)


@pytest.mark.parametrize("rows", ["text", b"bytes", {"x": 1}, 3, None, np.ones(3), [[object()]], [{"x": 3 + 4j}]])
def test_rows_that_cannot_be_sent_are_an_error(rows):
    with pytest.raises(EndpointError, match=r"came as|has shape|cannot be sent"):
        client_of(after()).predict(rows)


@pytest.mark.parametrize("settings", [{"attempts": 0}, {"batch_rows": 0}])
def test_a_client_that_could_not_ask_is_refused(settings):
    with pytest.raises(EndpointError, match="needs 1 attempt and 1 row"):
        Client("http://endpoint", "secret", **settings)


# --- on a real server -----------------------------------------------------------------------------------------------


class Listened:
    """A real server of a model of raw rows; counts the connections that it was asked over."""

    def __init__(self, bundle: Bundle) -> None:
        slot = ModelSlot()
        slot.put(Served(bundle, version=1, generation=1))
        self._slot, self._bundle = slot, bundle
        self._app: Any = EndpointApp(AppSettings("plans", "secret", max_rows=8), slot)
        self.connections: set[Any] = set()
        self.requests = 0
        config = uvicorn.Config(self._watch, port=0, interface="asgi3", log_level="warning", lifespan="off")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    async def _watch(self, scope: Any, receive: Any, send: Any) -> None:
        self.connections.add(tuple(scope["client"]))
        self.requests += 1
        await self._app(scope, receive, send)

    def put(self, version: int) -> None:
        self._slot.put(Served(self._bundle, version=version, generation=version))

    def labels(self) -> list[Any]:
        taken: list[Any] = self._app.feedback.take()
        return taken

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def __enter__(self) -> "Listened":
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()


@pytest.fixture
def listened(tmp_path: Path) -> Iterator[Listened]:
    with Listened(Bundle.open(write(tmp_path / "plans"))) as listened:
        yield listened


PLANS = {"age": [3, None], "plan": ["pro", "gold"], "paid": [True, False]}


@pytest.mark.parametrize(
    "rows",
    [
        [dict(zip(PLANS, row, strict=True)) for row in zip(*PLANS.values(), strict=True)],
        [list(row) for row in zip(*PLANS.values(), strict=True)],
        np.array(list(zip(*PLANS.values(), strict=True)), dtype=object),
        CsvRows(("plan", "age", "paid"), (("pro", "3", "true"), ("gold", "", "false"))),
        pa.table(PLANS),
        pa.record_batch(PLANS),
        pa.table({**PLANS, "plan": pa.array(PLANS["plan"], pa.string_view())}),
        pd.DataFrame(PLANS),
        pd.DataFrame({**PLANS, "plan": pd.Categorical(PLANS["plan"])}, index=[7, 9]),
    ],
)
def test_rows_in_each_form_are_answered_alike(listened: Listened, rows: Any) -> None:
    with Client(listened.url, "secret") as client:
        assert client.predict(rows).predictions == (1103.0, 210.0)


def test_requests_go_over_one_connection(listened: Listened) -> None:
    with Client(listened.url, "secret") as client:
        assert client.is_ready()
        for _ in range(20):
            client.predict([[1, "pro", False]])
    assert listened.requests == 21
    assert len(listened.connections) == 1


@pytest.mark.parametrize("form", ["records", "table", "array"])
def test_a_large_table_goes_in_batches_that_the_endpoint_takes(listened: Listened, form: str) -> None:
    ages = list(range(50))
    table = pa.table({"age": ages, "plan": ["pro"] * 50, "paid": [False] * 50})
    forms = {"table": table, "records": table.to_pylist(), "array": table.to_pandas().to_numpy()}
    with Client(listened.url, "secret", batch_rows=32) as client:  # the endpoint takes 8
        answer = client.predict(forms[form])
    assert answer.predictions == tuple(100.0 + age for age in ages)
    assert client.requests == 1
    assert listened.requests == 2 + 7  # 32 and 16 were too many


def test_versions_that_answered_a_part_each_are_named(listened: Listened) -> None:
    class Changing(list[Any]):
        def __getitem__(self, place: Any) -> Any:
            if isinstance(place, slice) and place.start == 4:
                listened.put(version=2)
            return super().__getitem__(place)

    with Client(listened.url, "secret", batch_rows=4) as client:
        answer = client.predict(Changing([[1, "pro", False]] * 8))
    assert (answer.version, answer.versions, len(answer.predictions)) == ("2", ("1", "2"), 8)


def test_labels_are_sent_for_an_answer_by_its_id(listened: Listened) -> None:
    with Client(listened.url, "secret", batch_rows=2) as client:
        answer = client.predict([[1, "pro", False]] * 3)
        assert len(answer.ids) == 2
        client.feedback(answer.ids[0], [101.0, 99.0])
        client.feedback(answer.ids[1], np.float32(101.0))
        with pytest.raises(RequestRefused, match="is of no answer") as raised:
            client.feedback("odd", 1)
        assert raised.value.status == 422
    assert [(one.judged, one.wrong) for one in listened.labels()] == [(2, 0), (1, 0)]


def test_a_key_is_sent_beside_the_rows() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["x-routing-key"] == "client-7"
        return httpx.Response(200, json=ANSWER)

    assert client_of(handler).predict([[1]], key="client-7").ids == ()


def test_an_empty_table_is_refused_by_the_endpoint(listened: Listened) -> None:
    with Client(listened.url, "secret") as client, pytest.raises(RequestRefused, match="There are no rows"):
        client.predict([])


def test_the_curl_line_is_complete(tmp_path):
    token_file = ensure_token(tmp_path / "it's here", "digits")
    address = EndpointAddress("digits", "http://127.0.0.1:8000", 8000, token_file, 8000)
    line = address.curl({"width": 1.5, "it's": np.float32(2)})
    said = subprocess.run(
        ["bash", "-c", line.replace("curl ", "printf '%s\\n' ", 1)], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said == [
        "-sS",
        "http://127.0.0.1:8000/predict",
        "-H",
        f"Authorization: Bearer {address.token}",
        "-H",
        "content-type: application/json",
        "-d",
        '{"rows":[{"width":1.5,"it\'s":2.0}]}',
    ]


def test_a_taken_port_gives_the_next_free_one():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        taken = listener.getsockname()[1]
        assert taken < free_port("127.0.0.1", taken) < taken + 200
    assert free_port("127.0.0.1", taken) == taken


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 65536), ("127.0.0.1", -1), ("203.0.113.1", 8000)])
def test_a_port_or_host_that_cannot_be_is_refused(host, port):
    with pytest.raises(EndpointError):
        free_port(host, port)


def test_importing_deploy_loads_nothing_heavy():
    code = "import sys, deploy; print([m for m in sys.modules if m in {'ray','torch','sklearn','onnxruntime','httpx'}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_everything_the_facade_names_is_there():
    for name in deploy.__all__:
        assert getattr(deploy, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        deploy.nothing  # noqa: B018

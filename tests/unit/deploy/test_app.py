import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from deploy.access.keyring import Keyring
from deploy.access.named_tokens import NamedToken, Secret, TokenScope
from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.served import ModelSlot, Served
from deploy.bundle import Bundle

SETTINGS = AppSettings(model="digits", token="secret", max_body_bytes=4096, max_rows=8)
RECORD = {"width": 1.0, "height": 2, "depth": 3.5}
Ask = Callable[..., httpx.Response]


@pytest.fixture
def slot(bundle: Bundle) -> ModelSlot:
    slot = ModelSlot()
    slot.put(Served(bundle, version=3, generation=3))
    return slot


@pytest.fixture
def app(slot: ModelSlot) -> EndpointApp:
    return EndpointApp(SETTINGS, slot)


@pytest.fixture
def ask(app: EndpointApp) -> Ask:
    return asker(app)


def asker(app: Any, token: str | None = "secret") -> Ask:
    async def send(method: str, path: str, **given: Any) -> httpx.Response:
        headers = {b"authorization": f"Bearer {token}".encode()} if token is not None else {}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://endpoint", headers=headers) as client:
            return await client.request(method, path, **given)

    return lambda method, path, **given: asyncio.run(send(method, path, **given))


@pytest.mark.parametrize(
    "body",
    [{"rows": [RECORD, RECORD]}, [RECORD, RECORD], {"rows": [[1.0, 2, 3.5]] * 2}, [[1, 2, 3], RECORD]],
)
def test_records_and_lists_are_answered_with_version_study_and_trial(ask, body):
    answer = ask("POST", "/predict", json=body)
    assert answer.status_code == 200
    assert answer.json() == {
        "id": answer.headers["x-answer-id"],
        "predictions": ["dog", "dog"],
        "probabilities": [[0.25, 0.75]] * 2,
        "version": "3",
        "study": "digits",
        "trial": 12,
    }
    assert answer.headers["x-model-version"] == "3"
    assert answer.headers["x-study"] == "digits"
    assert answer.headers["x-trial"] == "12"


def test_columns_may_come_in_any_order(app, slot, ask, monkeypatch):
    seen = []
    monkeypatch.setattr(Bundle, "predict", lambda self, rows: seen.append(rows.tolist()) or _real(self, rows))
    ask("POST", "/predict", json=[{"depth": 3, "width": 1, "height": 2}])
    assert seen == [[[1.0, 2.0, 3.0]]]


_real = Bundle.predict


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"not json", 400, "not JSON"),
        (b"", 400, "not JSON"),
        (b'[{"width": NaN, "height": 1, "depth": 1}]', 400, "no NaN or Infinity"),
        (b'[{"width": -Infinity, "height": 1, "depth": 1}]', 400, "no NaN or Infinity"),
        (b"3", 422, "holds a number"),
        (b"{}", 422, "nothing (null)"),
        (b'{"instances": []}', 422, "unknown key 'instances'"),
        (b"[]", 422, "no rows"),
        (b"[7]", 422, "Row 0 is a number"),
        (b"[[1, 2]]", 422, "Row 0 has 2 numbers; this model takes 3"),
        (b"[[1, 2, 3], [1, 2, [3]]]", 422, "Row 1, column 'depth': a list was given"),
        (b'[[1, "2", 3]]', 422, "Row 0, column 'height': a text was given"),
        (b"[[true, 2, 3]]", 422, "column 'width': a truth value was given"),
        (b"[[null, 2, 3]]", 422, "column 'width': nothing (null) was given"),
        (b"[[1e39, 2, 3]]", 422, "Row 0, column 'width': 1e+39 is no finite float32"),
        (b"[[1e999, 2, 3]]", 400, "not JSON"),
        (b'[{"width": 1, "height": 2}]', 422, "Row 0 lacks the column 'depth'"),
        (b'[{"width": 1, "height": 2, "dept": 3}]', 422, "unknown column 'dept'. Did you mean 'depth'?"),
        (b'[{"width": 1, "height": 2, "depth": 3, "zzzz": 3}]', 422, "'zzzz'. Known are 'width', 'height'"),
        (b"[" + b",".join([b"[1,2,3]"] * 9) + b"]", 413, "9 rows; a request may have 8"),
        (b"[" + b" " * 5000 + b"]", 413, "larger than 4096 bytes"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(ask, app, body, status, reason):
    answer = ask("POST", "/predict", content=body)
    assert reason in answer.json()["error"]
    assert answer.status_code == status
    assert answer.headers["x-model-version"] == "3"
    assert (app.counts.answered, app.counts.refused, app.counts.failed) == (0, 1, 0)


def test_a_reason_quotes_no_megabytes(slot):
    ask = asker(EndpointApp(AppSettings("digits", "secret"), slot))
    for name in ("x" * 3_000_000, "ж" * 1_000_000):
        answer = ask("POST", "/predict", json=[{name: 1}])
        assert answer.status_code == 422
        assert "unknown column" in answer.json()["error"]
        assert len(answer.json()["error"]) < 700
    names = ",".join(f"c{number}" for number in range(200_000))
    answer = ask("POST", "/predict", content=f"{names}\n1\n", headers={"content-type": "text/csv"})
    assert (answer.status_code, len(answer.json()["error"]) < 700) == (422, True)


def test_a_body_that_grows_too_large_without_saying_so_is_cut(ask):
    async def stream():
        for _ in range(100):
            yield b" " * 100

    assert ask("POST", "/predict", content=stream()).status_code == 413


@pytest.mark.parametrize("token", [None, "", "wrong", "secret2", "Secret", "sécret"])
@pytest.mark.parametrize("path", ["/predict", "/v2", "/v2/health/ready", "/v2/models/digits", "/nothing"])
def test_without_the_token_nothing_is_said(app, token, path):
    answer = asker(app, token)("POST", path)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "x-trial" not in answer.headers


def test_liveness_needs_no_token_and_no_model():
    answer = asker(EndpointApp(SETTINGS, ModelSlot()), None)("GET", "/v2/health/live")
    assert (answer.status_code, answer.json()) == (200, {"live": True})


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/predict"), ("GET", "/v2/models/digits"), ("POST", "/v2/models/digits/infer")]
)
def test_before_the_first_promotion_clients_are_told_to_wait(method, path):
    answer = asker(EndpointApp(SETTINGS, ModelSlot()))(method, path, **({"json": [RECORD]} if method == "POST" else {}))
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "No model has been promoted yet" in answer.json()["error"]


def test_ready_follows_the_model(ask):
    assert asker(EndpointApp(SETTINGS, ModelSlot()))("GET", "/v2/health/ready").status_code == 503
    for path in ("/v2/health/ready", "/v2/models/digits/ready", "/v2/models/digits/versions/3/ready"):
        answer = ask("GET", path)
        assert (answer.status_code, answer.json()["ready"]) == (200, True)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("GET", "/predict", "POST"), ("POST", "/v2", "GET"), ("DELETE", "/v2/models/digits", "GET")],
)
def test_wrong_method_says_which_is_right(ask, method, path, allowed):
    answer = ask(method, path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert f"use {allowed}" in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nothing", "nothing at /nothing"),
        ("/v2/models/digit", "no model 'digit' here; this endpoint serves 'digits'"),
        ("/v2/models/digits/versions/2", "Version '2' does not answer here; version 3 does"),
        ("/v2/models/digits/versions/x/ready", "Version 'x'"),
    ],
)
def test_unknown_path_model_or_version_is_404(ask, path, reason):
    answer = ask("GET", path)
    assert answer.status_code == 404
    assert reason in answer.json()["error"]


def test_metadata_names_tensors_columns_and_labels(ask):
    assert ask("GET", "/v2").json()["name"] == "orchestrator"
    metadata = ask("GET", "/v2/models/digits/versions/3").json()
    assert metadata["versions"] == ["3"]
    assert metadata["inputs"] == [{"name": "rows", "datatype": "FP32", "shape": [-1, 3]}]
    assert [output["datatype"] for output in metadata["outputs"]] == ["BYTES", "FP32"]
    assert metadata["parameters"] == {
        "study": "digits",
        "trial": 12,
        "columns": ["width", "height", "depth"],
        "labels": ["cat", "dog"],
    }


def tensor(**changed: Any) -> dict[str, Any]:
    return {"name": "rows", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6], **changed}


@pytest.mark.parametrize("data", [[1, 2, 3, 4, 5, 6], [[1, 2, 3], [4, 5, 6]]])
@pytest.mark.parametrize("path", ["/v2/models/digits/infer", "/v2/models/digits/versions/3/infer"])
def test_inference_answers_with_tensors(ask, path, data):
    answer = ask("POST", path, json={"id": "a", "inputs": [tensor(data=data)]})
    assert answer.status_code == 200
    assert answer.json() == {
        "model_name": "digits",
        "model_version": "3",
        "id": "a",
        "parameters": {"study": "digits", "trial": 12},
        "outputs": [
            {"name": "predictions", "datatype": "BYTES", "shape": [2], "data": ["dog", "dog"]},
            {"name": "probabilities", "datatype": "FP32", "shape": [2, 2], "data": [0.25, 0.75, 0.25, 0.75]},
        ],
    }


def test_inference_gives_only_the_outputs_asked_for(ask):
    body = {"inputs": [tensor()], "outputs": [{"name": "probabilities"}]}
    outputs = ask("POST", "/v2/models/digits/infer", json=body).json()["outputs"]
    assert [output["name"] for output in outputs] == ["probabilities"]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ([], 422, "has to be an object"),
        ({}, 422, "Give the input tensors in 'inputs'"),
        ({"inputs": [3]}, 422, "Give the input tensors in 'inputs'"),
        ({"inputs": [tensor(), tensor()]}, 422, "Give one input tensor"),
        ({"inputs": [tensor(name="x")]}, 422, "named 'x'; this model takes 'rows'"),
        ({"inputs": [tensor(datatype="BYTES")]}, 422, "'rows' of datatype BYTES has 1 where a text"),
        ({"inputs": [tensor(datatype="BYTES", data=["1"] * 6)]}, 422, "has datatype 'BYTES'; send FP32"),
        ({"inputs": [tensor(datatype="INT8", data=[1, 2, 3, 4, 5, 128])]}, 422, "has 128, which is no INT8"),
        ({"inputs": [tensor(datatype="INT64", data=[1, 2, 3, 4, 5, 6.5])]}, 422, "6.5 where a whole number is needed"),
        ({"inputs": [tensor(name=None)]}, 422, "has the name None"),
        ({"inputs": [tensor(parameters=3)]}, 422, "parameters of the tensor 'rows' have to be an object"),
        ({"inputs": [tensor(parameters={"shared_memory_region": "x"})]}, 422, "lies in shared memory"),
        ({"inputs": [tensor()], "parameters": {"sequence_id": 3}}, 422, "'sequence_id'; this server has no such"),
        ({"inputs": [tensor()], "outputs": [{"name": "predictions"}] * 2}, 422, "asked for twice"),
        ({"inputs": [tensor(datatype=[])]}, 422, "has datatype []; known are BOOL"),
        ({"inputs": [tensor(shape=[2, 2])]}, 422, "takes [n, 3]"),
        ({"inputs": [tensor(shape=["2", 3])]}, 422, "has shape ['2', 3]; give a list of whole numbers"),
        ({"inputs": [tensor(shape=None)]}, 422, "has shape None"),
        ({"inputs": [tensor(shape=[-2, 3])]}, 422, "has shape [-2, 3]"),
        ({"inputs": [tensor(shape=[9, 3])]}, 413, "a request may have 8"),
        ({"inputs": [tensor(shape=[1, 3])]}, 422, "says shape [1, 3] and has 6 cells"),
        ({"inputs": [tensor(data="123456")]}, 422, "needs 'data': a list"),
        ({"inputs": [tensor(data=[[[[[[[[[1]]]]]]]]])]}, 422, "nested more than 8 deep"),
        ({"inputs": [tensor(data=[1, 2, 3, 4, 5, None])]}, 422, "has None where a number is needed"),
        ({"inputs": [tensor(data=[1, 2, 3, 4, 5, True])]}, 422, "has True where a number is needed"),
        ({"inputs": [tensor(data=[1, 2, 3, 4, 5, 1e39])]}, 422, "no finite float32"),
        ({"inputs": [tensor()], "outputs": [{"name": "x"}]}, 422, "no output 'x'"),
        ({"inputs": [tensor()], "outputs": "x"}, 422, "list of objects"),
    ],
)
def test_a_wrong_inference_request_is_told_what_is_wrong(ask, body, status, reason):
    answer = ask("POST", "/v2/models/digits/infer", content=orjson.dumps(body))
    assert reason in answer.json()["error"]
    assert answer.status_code == status


def test_a_failing_model_is_our_fault_and_is_logged(ask, app, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Bundle, "predict", fail)
    answer = ask("POST", "/predict", json=[RECORD])
    assert answer.status_code == 500
    assert "broken" in caplog.text
    assert app.counts.failed == 1


def test_a_request_keeps_the_model_that_it_began_with(bundle, make_bundle, slot, app):
    other = Served(Bundle.open(make_bundle("2", (0.75, 0.25))), version=4, generation=4)

    async def receive() -> dict[str, Any]:
        slot.put(other)  # the swap happens while the body comes in
        return {"type": "http.request", "body": orjson.dumps([RECORD])}

    first, second = (asyncio.run(call(app, receive)) for _ in range(2))
    assert (first["version"], first["predictions"]) == ("3", ["dog"])
    assert (second["version"], second["predictions"]) == ("4", ["cat"])


async def call(app: EndpointApp, receive: Callable[[], Awaitable[Any]]) -> dict[str, Any]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"Authorization", b"Bearer secret")]
    scope = {"type": "http", "method": "POST", "path": "/x/predict", "root_path": "/x", "headers": headers}
    await app(scope, receive, send)
    answer: dict[str, Any] = orjson.loads(sent[1]["body"])
    return answer


def test_an_older_decision_never_replaces_a_later_one(bundle):
    slot = ModelSlot()
    assert slot.put(Served(bundle, version=2, generation=2))
    assert not slot.put(Served(bundle, version=1, generation=1))
    assert slot.served is not None
    assert slot.served.version == 2


def test_lifespan_is_answered(app):
    async def live() -> list[str]:
        messages = iter(["lifespan.startup", "lifespan.shutdown"])
        sent: list[str] = []

        async def receive() -> dict[str, str]:
            return {"type": next(messages)}

        async def send(message: Any) -> None:
            sent.append(message["type"])

        await app({"type": "lifespan"}, receive, send)
        return sent

    assert asyncio.run(live()) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# --- named tokens --------------------------------------------------------------------------------------------------


@pytest.fixture
def scoped(slot: ModelSlot) -> Callable[[str], Ask]:
    """Asks with a token that has one scope and nothing else."""
    made = datetime(2026, 1, 1, tzinfo=UTC)
    tokens = [
        NamedToken(scope.value, frozenset({scope}), None, made, (Secret.of(f"s-{scope.value}"),))
        for scope in TokenScope
    ]
    app = EndpointApp(SETTINGS, slot, Keyring("secret", tokens))
    return lambda scope: asker(app, f"s-{scope}")


@pytest.mark.parametrize("scope", ["predict", "metrics", "admin"])
@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("POST", "/predict", "predict"),
        ("POST", "/v2/models/digits/infer", "predict"),
        ("POST", "/feedback", "predict"),
        ("GET", "/openapi.json", "predict"),
        ("GET", "/v2/models/digits", "predict"),
        ("GET", "/v2/health/ready", ""),
        ("GET", "/v2/models/digits/ready", ""),
        ("GET", "/v2", ""),
    ],
)
def test_a_token_opens_what_its_scope_says_and_a_refusal_names_the_scope(scoped, method, path, wanted, scope):
    answer = scoped(scope)(method, path)
    assert (answer.status_code == 403) == (wanted not in ("", scope))
    if answer.status_code == 403:
        assert f"'{scope}' has not the scope '{wanted}'" in answer.json()["error"]
        assert f'scope="{wanted}"' in answer.headers["www-authenticate"]

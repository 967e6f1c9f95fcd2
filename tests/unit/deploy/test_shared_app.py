"""Endpoints that share a replica: whose paths a request is for, and whose token opens them."""

import asyncio
from typing import Any

import orjson
import pytest

from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.routes import TAKEN, find_route
from deploy.answering.served import ModelSlot, Served
from deploy.answering.shared_app import SharedApp
from deploy.bundle import Bundle
from deploy.http.asgi import Refusal

TENSOR = {"name": "rows", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}


def app_of(bundle: Bundle, model: str, version: int) -> EndpointApp:
    slot = ModelSlot()
    slot.put(Served(bundle, version, version))
    return EndpointApp(AppSettings(model, f"token of {model}"), slot)


@pytest.fixture
def shared(bundle: Bundle) -> SharedApp:
    shared = SharedApp(app_of(bundle, "digits", 3))
    shared.put({"plans": app_of(bundle, "plans", 5), "a.b-c": app_of(bundle, "a.b-c", 7)})
    return shared


def ask(
    app: SharedApp, path: str, *, token: str = "digits", method: str = "GET", body: Any = None, root: str = ""
) -> tuple[int, Any]:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"" if body is None else orjson.dumps(body)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"authorization", f"Bearer token of {token}".encode())]
    scope = {"type": "http", "method": method, "path": root + path, "root_path": root, "headers": headers}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], orjson.loads(sent[1]["body"])


@pytest.mark.parametrize("root", ["", "/prefix"])
@pytest.mark.parametrize(
    ("path", "token", "version"),
    [
        ("/predict", "digits", "3"),
        ("/plans/predict", "plans", "5"),
        ("/a.b-c/predict", "a.b-c", "7"),
    ],
)
def test_rows_go_to_the_endpoint_whose_name_is_before_the_path(
    shared: SharedApp, root: str, path: str, token: str, version: str
) -> None:
    status, answer = ask(shared, path, token=token, method="POST", body=[[1, 2, 3]], root=root)
    assert (status, answer["version"]) == (200, version)


@pytest.mark.parametrize(
    ("path", "token", "version"),
    [
        ("/v2/models/digits/infer", "digits", "3"),
        ("/v2/models/plans/infer", "plans", "5"),
        ("/plans/v2/models/plans/infer", "plans", "5"),
        ("/v2/models/a%2Eb-c/infer", "a.b-c", "7"),
        ("/v2/models/plans/versions/5/infer", "plans", "5"),
    ],
)
def test_tensors_go_to_the_model_of_that_name(shared: SharedApp, path: str, token: str, version: str) -> None:
    status, answer = ask(shared, path, token=token, method="POST", body={"inputs": [TENSOR]})
    assert (status, answer["model_version"]) == (200, version)


@pytest.mark.parametrize("path", ["/plans/v2/models/digits", "/v2/models/plans/versions/3", "/v2/models/none"])
def test_a_model_that_is_not_there_is_refused(shared: SharedApp, path: str) -> None:
    assert ask(shared, path, token="plans" if "plans" in path else "digits")[0] == 404


@pytest.mark.parametrize(
    ("path", "token"), [("/plans/predict", "digits"), ("/predict", "plans"), ("/v2/models/plans/infer", "digits")]
)
def test_one_s_token_does_not_open_the_other(shared: SharedApp, path: str, token: str) -> None:
    assert ask(shared, path, token=token, method="POST", body=[[1, 2, 3]])[0] == 401


def test_each_page_is_below_its_own_address(shared: SharedApp) -> None:
    _, document = ask(shared, "/plans/openapi.json", token="plans", root="/prefix")
    assert document["servers"] == [{"url": "/prefix/plans"}]
    assert ask(shared, "/plans/v2/health/live") == (200, {"live": True})


def test_who_left_is_not_found_and_the_others_stay(shared: SharedApp, bundle: Bundle) -> None:
    shared.put({"a.b-c": app_of(bundle, "a.b-c", 8)})
    assert ask(shared, "/plans/predict", method="POST", body=[])[0] == 404
    assert ask(shared, "/a.b-c/predict", token="a.b-c", method="POST", body=[[1, 2, 3]])[1]["version"] == "8"
    assert set(shared.apps) == {"digits", "a.b-c"}
    assert all(b"plans" not in path for path in shared.plain_paths)


@pytest.mark.parametrize("path", ["", "/", "//", "/v2/models/", "/v2/models", "/plans", "/plansx/predict"])
def test_odd_paths_are_refused_as_those_of_one_model_are(shared: SharedApp, bundle: Bundle, path: str) -> None:
    assert ask(shared, path, token="plans" if path == "/plans" else "digits")[0] == 404


def test_the_names_that_are_taken_are_the_beginnings_of_all_paths() -> None:
    for name in TAKEN:
        paths = [f"/{name}{rest}" for rest in ("", "/health/live", "/status", "/models/m")]
        assert any(_is_known(path) for path in paths), name
    assert not _is_known("/plans")


def _is_known(path: str) -> bool:
    try:
        return bool(find_route("GET", path))
    except Refusal as refusal:
        return refusal.status == 405

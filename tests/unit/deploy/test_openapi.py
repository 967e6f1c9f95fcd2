"""The OpenAPI document and the page: what they say is so, and their examples are answered."""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest
from plans import RECORD, Ask, asker, write

from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.served import ModelSlot, Served
from deploy.bundle import Bundle
from deploy.http.docs_page import PAGE, docs_page
from deploy.http.media import ARROW, CSV, JSON


@pytest.fixture(params=["plans", "digits"])
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def ask(model: str, tmp_path: Path, bundle: Bundle) -> Ask:
    return asker(Bundle.open(write(tmp_path / "plans")) if model == "plans" else bundle, model)


@pytest.fixture
def document(ask: Ask) -> dict[str, Any]:
    answer = ask("GET", "/openapi.json")
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def schema_of(document: dict[str, Any], schema: Any) -> jsonschema.Draft202012Validator:
    """The validator of a schema with the document's components in reach; OpenAPI 3.1 is JSON Schema 2020-12."""
    return jsonschema.Draft202012Validator({**schema, "components": document["components"]})


def bodies(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"]["/predict"]["post"]["requestBody"]["content"]
    return found


def test_the_document_is_one(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    names = [told["operationId"] for methods in document["paths"].values() for told in methods.values()]
    assert len(set(names)) == len(names)
    for name in re.findall(r'"#/components/schemas/(\w+)"', str(document).replace("'", '"')):
        assert name in document["components"]["schemas"]


def test_each_example_fits_its_schema_and_is_answered(ask: Ask, document: dict[str, Any], model: str) -> None:
    content = bodies(document)
    taken = schema_of(document, content[JSON]["schema"])
    given = schema_of(document, {"$ref": "#/components/schemas/Predictions"})
    answers = []
    for example in content[JSON]["examples"].values():
        taken.validate(example["value"])
        answers.append(ask("POST", "/predict", json=example["value"]))
    answers.append(ask("POST", "/predict", content=content[CSV]["example"], headers={"content-type": CSV}))
    for answer in answers:
        assert answer.status_code == 200, answer.text
        given.validate(answer.json())
        assert answer.json()["predictions"] == answers[0].json()["predictions"]
    infer = document["paths"][f"/v2/models/{model}/infer"]["post"]
    body = infer["requestBody"]["content"][JSON]
    schema_of(document, body["schema"]).validate(body["example"])
    answer = ask("POST", f"/v2/models/{model}/infer", json=body["example"])
    assert answer.status_code == 200, answer.text
    schema_of(document, infer["responses"]["200"]["content"][JSON]["schema"]).validate(answer.json())


def test_each_path_that_it_names_is_there(ask: Ask, document: dict[str, Any]) -> None:
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            answer = ask(method, path)
            assert answer.status_code not in (404, 405), path
            schema = told["responses"][str(answer.status_code)]["content"][JSON]["schema"]
            schema_of(document, schema).validate(answer.json())


@pytest.mark.parametrize(
    ("changed", "fits"),
    [
        ({}, True),
        ({"age": None}, True),
        ({"plan": "never seen"}, True),
        ({"plan": None}, False),
        ({"paid": 1}, False),
        ({"age": "3"}, False),
        ({"odd": 1}, False),
    ],
)
def test_the_schema_takes_what_the_endpoint_takes(tmp_path: Path, changed: dict[str, Any], fits: bool) -> None:
    ask = asker(Bundle.open(write(tmp_path / "plans")), "plans")
    document, body = ask("GET", "/openapi.json").json(), {"rows": [{**RECORD, **changed}]}
    assert schema_of(document, bodies(document)[JSON]["schema"]).is_valid(body) is fits
    assert (ask("POST", "/predict", json=body).status_code == 200) is fits


def test_it_says_what_becomes_of_missing_and_unseen_cells(tmp_path: Path) -> None:
    ask = asker(Bundle.open(write(tmp_path / "plans")), "plans")
    cells = ask("GET", "/openapi.json").json()["components"]["schemas"]["Record"]["properties"]
    assert cells["age"] == {"type": ["number", "null"], "description": "May be missing (null)."}
    assert cells["plan"]["examples"] == ["basic", "pro"]
    assert "Another text is answered as a rare one" in cells["plan"]["description"]


def test_kinds_of_bodies_are_those_that_are_read(document: dict[str, Any]) -> None:
    assert set(bodies(document)) == {JSON, CSV, ARROW}


def test_under_a_prefix_the_server_is_named(bundle: Bundle) -> None:
    async def get() -> Any:
        slot = ModelSlot()
        app: Any = EndpointApp(AppSettings("digits", "secret"), slot)
        slot.put(Served(bundle, 1, 1))
        transport = httpx.ASGITransport(app, root_path="/other")
        headers = {"authorization": "Bearer secret"}
        async with httpx.AsyncClient(transport=transport, base_url="http://endpoint", headers=headers) as client:
            return (await client.get("/other/openapi.json")).json()

    assert asyncio.run(get())["servers"] == [{"url": "/other"}]


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_is_open_and_the_document_is_not(bundle: Bundle) -> None:
    with_token = {"authorization": "Bearer wrong"}
    ask = asker(bundle, "digits")
    assert ask("GET", "/docs", headers=with_token).status_code == 200
    assert ask("GET", "/openapi.json", headers=with_token).status_code == 401


def test_the_page_says_nothing_of_the_model_and_loads_nothing_from_elsewhere(bundle: Bundle) -> None:
    page = asker(bundle, "digits")("GET", "/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert not re.search(r"https?:|//cdn|src=|url\(|@import|innerHTML|eval", page.text)
    assert not any(column in page.text for column in ("depth", "dog", "digits"))
    assert not {name for name in page.headers if name.startswith("x-")} - {"x-content-type-options"}


def test_the_policy_lets_only_this_script_run() -> None:
    policy = dict(docs_page().headers)[b"content-security-policy"].decode()
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"<[^>]+ on\w+=|<[^>]+ style=", PAGE.read_text()), "which the policy would block"

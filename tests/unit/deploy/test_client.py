import subprocess
import sys

import httpx
import numpy as np
import pytest

import deploy
from deploy import Client, EndpointAddress
from deploy.ports import free_port
from deploy.tokens import ensure_token
from orchestrator.domain.errors import EndpointError

ANSWER = {"predictions": [1], "probabilities": [[0.1, 0.9]], "version": "3", "study": "digits", "trial": 12}


def client_of(handler) -> Client:
    client = Client("http://endpoint/digits/", "secret")
    client._http = httpx.Client(transport=httpx.MockTransport(handler), headers=client._http.headers)
    return client


def test_client_sends_the_token_and_reads_who_answered():
    def handler(request: httpx.Request) -> httpx.Response:
        assert request.url == "http://endpoint/digits/predict"
        assert request.headers["authorization"] == "Bearer secret"
        assert request.content == b'{"rows":[[1.0,2.0]]}'
        return httpx.Response(200, json=ANSWER)

    with client_of(handler) as client:
        answer = client.predict(np.array([[1, 2]], dtype=np.float32))
    assert (answer.predictions, answer.probabilities) == ((1,), ((0.1, 0.9),))
    assert (answer.version, answer.study, answer.trial, answer.status) == ("3", "digits", 12, 200)


def test_a_broken_connection_is_tried_again_once():
    calls = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        if len(calls) == 1:
            raise httpx.RemoteProtocolError("closed")
        return httpx.Response(200, json=ANSWER)

    client = client_of(handler)
    assert client.predict([[1]]).trial == 12
    assert (client.requests, client.retried, client.failed) == (1, 1, 0)


@pytest.mark.parametrize(("error", "attempts"), [(httpx.ConnectError("refused"), 2), (httpx.ReadTimeout("slow"), 1)])
def test_an_endpoint_that_cannot_be_reached_is_an_error_with_what_to_do(error, attempts):
    calls = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        raise error

    client = client_of(handler)
    with pytest.raises(EndpointError, match=r"cannot be reached .* Is it running"):
        client.predict([[1]])
    assert len(calls) == attempts
    assert client.failed == 1
    assert not client.is_ready()


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (httpx.Response(422, json={"error": "Row 0 lacks"}), "status 422: Row 0 lacks"),
        (httpx.Response(502, text="bad gateway"), "status 502: bad gateway"),
        (httpx.Response(500, json=[1]), r"status 500: \[1\]"),
    ],
)
def test_a_refusal_is_an_error_with_its_reason(response, reason):
    with pytest.raises(EndpointError, match=reason):
        client_of(lambda _: response).predict([{"x": 1}])


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

"""The endpoint on a real Ray: what holds while requests flow and processes die."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import ray
from connections import Load

from deploy import (
    Client,
    EndpointAddress,
    EndpointHandle,
    Scale,
    endpoint_handle,
    start_endpoint,
    stop_endpoint,
    stop_serve,
)
from deploy.answering import open_inference_pb2 as messages
from deploy.bundle import Kind, Lineage, Schema, constant_model, write_bundle
from deploy.ingress.serve_instance import GRPC_MESSAGE_BYTES
from orchestrator.domain.errors import BundleError, EndpointError, StudyBusy
from orchestrator.journal import open_journal

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

CLASSES = 4
SCHEMA = Schema(columns=("width", "height"), kind=Kind.CLASSIFICATION, labels=tuple(range(CLASSES)))
ROW = {"width": 1.0, "height": 2.0}


def wait_until(holds: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One bundle a class; the trial that made it is 100 + the class that it always predicts."""
    directory = tmp_path_factory.mktemp("bundles")
    return [
        write_bundle(
            directory / str(label),
            onnx_model=constant_model(2, [float(label == other) for other in range(CLASSES)]),
            schema=SCHEMA,
            lineage=Lineage("shapes", 100 + label, 9),
            sample_rows=np.ones((2, 2), dtype=np.float32),
        )
        for label in range(CLASSES)
    ]


@pytest.fixture(scope="module")
def asked_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def grpc_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def address(
    ray_session: None, tmp_path_factory: pytest.TempPathFactory, asked_port: int, grpc_port: int
) -> Iterator[EndpointAddress]:
    storage = tmp_path_factory.mktemp("runs")
    stop_serve()  # where another test left it, on a port of its own
    yield start_endpoint("shapes", storage, port=asked_port, grpc_port=grpc_port, scale=Scale(2, 2, 0.5))
    stop_endpoint("shapes")
    assert stop_serve()


@pytest.fixture
def handle(address: EndpointAddress) -> EndpointHandle:
    handle = endpoint_handle("shapes")
    wait_until(lambda: len(handle.status()["replicas"]) == 2)
    return handle


def call(address: EndpointAddress, method: str, request: Any, token: str | None, *metadata: tuple[str, str]) -> Any:
    """Makes one call of the protocol's service over a channel of its own."""
    authorization = [] if token is None else [("authorization", f"Bearer {token}")]
    assert address.grpc_target is not None
    with grpc.insecure_channel(address.grpc_target) as channel:
        ask = channel.unary_unary(
            f"/inference.GRPCInferenceService/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=getattr(messages, f"{method}Response").FromString,
        )
        return ask(request, metadata=[*authorization, *metadata], timeout=30)


def two_rows(model: str) -> Any:
    tensor = messages.ModelInferRequest.InferInputTensor(
        name="rows", datatype="FP32", shape=[2, 2], contents=messages.InferTensorContents(fp32_contents=[1, 2, 3, 4])
    )
    return messages.ModelInferRequest(model_name=model, inputs=[tensor])


def test_grpc_cannot_be_asked_of_a_serve_that_runs_without(tmp_path: Path, grpc_port: int) -> None:
    stop_serve()  # where another test left it
    assert start_endpoint("first", tmp_path, scale=Scale(cpus=0.5)).grpc_target is None
    try:
        with pytest.raises(EndpointError, match="Serve runs in this Ray cluster without it"):
            start_endpoint("second", tmp_path, grpc_port=grpc_port, scale=Scale(cpus=0.5))
    finally:
        for name in ("first", "second"):
            stop_endpoint(name)
        assert stop_serve()


def test_grpc_is_answered_like_http(
    address: EndpointAddress, handle: EndpointHandle, bundles: list[Path], grpc_port: int
) -> None:
    version = handle.promote(str(bundles[3]))["version"]
    assert address.grpc_target == f"127.0.0.1:{grpc_port}"
    assert call(address, "ServerLive", messages.ServerLiveRequest(), None).live
    assert call(address, "ServerReady", messages.ServerReadyRequest(), address.token).ready
    answer = call(address, "ModelInfer", two_rows("shapes"), address.token)
    assert list(answer.outputs[0].contents.int64_contents) == [3, 3]
    assert (answer.model_version, answer.parameters["trial"].int64_param) == (str(version), 103)
    for token, model, code in (
        (None, "shapes", grpc.StatusCode.UNAUTHENTICATED),
        ("wrong", "shapes", grpc.StatusCode.UNAUTHENTICATED),
        (address.token, "forms", grpc.StatusCode.NOT_FOUND),
    ):
        with pytest.raises(grpc.RpcError) as raised:
            call(address, "ModelInfer", two_rows(model), token)
        assert raised.value.code() == code


def test_no_message_is_taken_that_is_larger_than_any_answer(address: EndpointAddress, handle: EndpointHandle) -> None:
    whole = two_rows("shapes")
    whole.raw_input_contents.append(bytes(GRPC_MESSAGE_BYTES))
    with pytest.raises(grpc.RpcError) as raised:
        call(address, "ModelInfer", whole, "wrong")
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert call(address, "ServerLive", messages.ServerLiveRequest(), None).live


def test_a_taken_port_gives_the_next_free_one_and_says_so(address: EndpointAddress, asked_port: int) -> None:
    assert address.asked_port == asked_port
    assert address.port > asked_port
    assert httpx.get(f"http://127.0.0.1:{address.port}/v2/health/live").json() == {"live": True}


def test_starting_again_changes_nothing(address: EndpointAddress, handle: EndpointHandle, asked_port: int) -> None:
    before = {replica["pid"] for replica in handle.status()["replicas"]}
    storage = address.token_file.parent.parent.parent
    assert start_endpoint("shapes", storage, port=asked_port, scale=Scale(2, 2, 0.5)) == address  # gRPC is open
    assert {replica["pid"] for replica in handle.status()["replicas"]} == before
    with pytest.raises(EndpointError, match="runs already, on the storage"):
        start_endpoint("shapes", storage / "other")


def test_the_answer_carries_version_and_trial(
    address: EndpointAddress, handle: EndpointHandle, bundles: list[Path]
) -> None:
    promotion = handle.promote(str(bundles[1]), Lineage("shapes", 101, 9), who="a test", why="it is better")
    with Client(address.url, address.token) as client:
        answer = client.predict([ROW])
    assert (answer.predictions, answer.study, answer.trial) == ((1,), "shapes", 101)
    assert answer.version == str(promotion["version"])
    status = handle.status()
    assert [replica["version"] for replica in status["replicas"]] == [promotion["version"]] * 2
    assert (status["current"]["who"], status["current"]["why"]) == ("a test", "it is better")


def test_the_curl_line_works_when_pasted(address: EndpointAddress, handle: EndpointHandle, bundles: list[Path]) -> None:
    handle.promote(str(bundles[2]))
    done = subprocess.run(["bash", "-c", address.curl(ROW)], capture_output=True, text=True, check=True)
    assert '"predictions":[2]' in done.stdout


def test_promoting_while_requests_flow_loses_none(
    address: EndpointAddress, handle: EndpointHandle, bundles: list[Path]
) -> None:
    handle.promote(str(bundles[0]))
    with Load(address, ROW) as load, Client(address.url, address.token) as client:
        for turn in range(20):
            label = (turn + 1) % CLASSES
            promotion = handle.promote(str(bundles[label]))
            assert promotion["errors"] == []
            assert client.predict([ROW]).predictions == (label,)  # no replica answers from the one before
    assert load.errors == []
    assert all(trial == 100 + label for label, trial in load.answers)
    assert {label for label, _ in load.answers} == set(range(CLASSES))


def test_promoting_while_calls_flow_over_grpc_loses_none(
    address: EndpointAddress, handle: EndpointHandle, bundles: list[Path]
) -> None:
    over, answers, errors = threading.Event(), [], []
    metadata = [("authorization", f"Bearer {address.token}")]

    def ask_on() -> None:
        with grpc.insecure_channel(address.grpc_target) as channel:
            ask = channel.unary_unary(
                "/inference.GRPCInferenceService/ModelInfer",
                request_serializer=messages.ModelInferRequest.SerializeToString,
                response_deserializer=messages.ModelInferResponse.FromString,
            )
            while not over.is_set():
                try:
                    answers.append(ask(two_rows("shapes"), metadata=metadata, timeout=30))
                except grpc.RpcError as error:
                    errors.append(str(error))

    handle.promote(str(bundles[0]))
    thread = threading.Thread(target=ask_on)
    thread.start()
    try:
        wait_until(lambda: len(answers) > 3)
        for turn in range(8):
            label = (turn + 1) % CLASSES
            handle.promote(str(bundles[label]))
            answer = call(address, "ModelInfer", two_rows("shapes"), address.token)
            assert list(answer.outputs[0].contents.int64_contents) == [label, label]
    finally:
        over.set()
        thread.join()
    assert errors == []
    for answer in answers:
        label = answer.parameters["trial"].int64_param - 100
        assert list(answer.outputs[0].contents.int64_contents) == [label, label]


def test_promoting_what_answers_again_changes_nothing(handle: EndpointHandle, bundles: list[Path]) -> None:
    first = handle.promote(str(bundles[3]))
    again = handle.promote(bundles[3].as_uri())
    assert (again["version"], again["generation"], again["changed"]) == (first["version"], first["generation"], False)


def test_a_bundle_that_may_not_be_served_is_refused_and_nothing_changes(
    handle: EndpointHandle, bundles: list[Path], tmp_path: Path
) -> None:
    routing = handle.promote(str(bundles[0]))["generation"]
    with pytest.raises(BundleError, match="There is no bundle in"):
        handle.promote(str(tmp_path / "nothing"))
    with pytest.raises(BundleError, match="Promote it with its own lineage"):
        handle.promote(str(bundles[1]), Lineage("shapes", 7, 9))
    after = handle.routing()
    assert after is not None
    assert after["generation"] == routing


def test_a_late_replica_serves_the_current_version(
    address: EndpointAddress, handle: EndpointHandle, bundles: list[Path]
) -> None:
    version = handle.promote(str(bundles[1]))["version"]
    before = {replica["pid"] for replica in handle.status()["replicas"]}
    os.kill(min(before), signal.SIGKILL)

    def replaced() -> bool:
        pids = {replica["pid"] for replica in handle.status()["replicas"]}
        return len(pids) == 2 and min(before) not in pids

    wait_until(replaced)
    assert [replica["version"] for replica in handle.status()["replicas"]] == [version] * 2


def test_a_killed_endpoint_actor_comes_back_with_its_routing(handle: EndpointHandle, bundles: list[Path]) -> None:
    handle.promote(str(bundles[2]))
    before = handle.status()
    os.kill(before["pid"], signal.SIGKILL)
    after = handle.status()
    assert after["pid"] != before["pid"]
    assert {key: after[key] for key in ("current", "versions", "generation", "place")} == {
        key: before[key] for key in ("current", "versions", "generation", "place")
    }
    assert handle.promote(str(bundles[3]))["errors"] == []
    assert len(handle.status()["replicas"]) == 2


def test_a_promotion_in_flight_when_the_actor_is_killed_happens_once(
    address: EndpointAddress, handle: EndpointHandle, bundles: list[Path]
) -> None:
    before = handle.promote(str(bundles[0]))
    asked = handle.actor.promote.remote(str(bundles[1]), None, "a test", "killed meanwhile")
    os.kill(handle.status()["pid"], signal.SIGKILL)
    assert ray.get(asked)["generation"] == before["generation"] + 1
    with Client(address.url, address.token) as client:
        assert client.predict([ROW]).predictions == (1,)


def test_requests_are_answered_while_the_endpoint_actor_is_away(
    address: EndpointAddress, handle: EndpointHandle, bundles: list[Path]
) -> None:
    handle.promote(str(bundles[2]))
    with Load(address, ROW) as load:
        pid = handle.status()["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: handle.status()["pid"] != pid)
    assert load.errors == []


def test_replicas_and_endpoint_actor_load_neither_torch_nor_sklearn(handle: EndpointHandle) -> None:
    # A lambda travels by value: the actors cannot import this test.
    loaded = lambda _: [name for name in ("torch", "sklearn") if name in __import__("sys").modules]  # noqa: E731
    named = ray.util.list_named_actors(all_namespaces=True)
    replicas = [actor["name"] for actor in named if actor["name"].startswith("SERVE_REPLICA::shapes")]
    actors = [handle.actor, *(ray.get_actor(name, namespace="serve") for name in replicas)]
    assert len(actors) == 3
    assert ray.get([actor.__ray_call__.remote(loaded) for actor in actors]) == [[]] * 3


def test_a_second_endpoint_lives_beside_the_first(
    address: EndpointAddress, handle: EndpointHandle, bundles: list[Path], tmp_path: Path
) -> None:
    handle.promote(str(bundles[0]))
    other = start_endpoint("other", tmp_path, scale=Scale(cpus=0.5))
    try:
        assert other.url == f"{address.url}/other"
        with Client(other.url, other.token) as client:
            assert not client.is_ready()
            with pytest.raises(EndpointError, match="503: No model has been promoted yet"):
                client.predict([ROW])
            endpoint_handle("other").promote(str(bundles[1]))
            assert client.predict([ROW]).predictions == (1,)
        with httpx.Client(headers={"authorization": f"Bearer {other.token}"}) as http:
            assert http.get(f"{other.url}/docs").status_code == 200
            document = http.get(f"{other.url}/openapi.json").json()
            assert (document["info"]["title"], document["servers"]) == ("other", [{"url": "/other"}])
        for endpoint, label in ((other, 1), (address, 0)):  # one port for both: the metadata say whose call it is
            named = "other" if endpoint is other else "shapes"
            answer = call(endpoint, "ModelInfer", two_rows(named), endpoint.token, ("application", named))
            assert list(answer.outputs[0].contents.int64_contents) == [label] * 2
        assert httpx.get(f"{other.url}/v2", headers={"authorization": f"Bearer {address.token}"}).status_code == 401
    finally:
        stop_endpoint("other")
    with pytest.raises(EndpointError, match="No endpoint 'other' runs"):
        endpoint_handle("other")
    with Client(address.url, address.token) as client:
        assert client.predict([ROW]).predictions == (0,)


def test_an_endpoint_comes_back_with_its_version_after_it_was_stopped(bundles: list[Path], tmp_path: Path) -> None:
    start_endpoint("again", tmp_path, scale=Scale(cpus=0.5))
    version = endpoint_handle("again").promote(str(bundles[3]))["version"]
    stop_endpoint("again")
    address = start_endpoint("again", tmp_path, scale=Scale(cpus=0.5))
    try:
        with Client(address.url, address.token) as client:
            answer = client.predict([ROW])
        assert (answer.predictions, answer.version) == ((3,), str(version))
    finally:
        stop_endpoint("again")


def test_an_endpoint_with_another_writer_is_refused_and_leaves_no_actor(tmp_path: Path) -> None:
    journal = open_journal(tmp_path / "endpoints" / "busy" / "journal")
    with pytest.raises(StudyBusy, match="is being written by process"):
        start_endpoint("busy", tmp_path)
    with pytest.raises(EndpointError, match="No endpoint 'busy' runs"):
        endpoint_handle("busy")
    journal.close()


def test_serve_stays_while_an_application_is_left(address: EndpointAddress) -> None:
    assert not stop_serve()
    assert httpx.get(f"{address.url}/v2/health/live").status_code == 200

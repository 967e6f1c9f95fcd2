"""Several endpoints in the same replicas, on a real Ray: who answers, what is restarted, and what comes back."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import ray
from connections import Load
from studies import begin, run_to_end, specification
from under_load import wait_until

from deploy import (
    Client,
    EndpointAddress,
    RequestRefused,
    Scale,
    endpoint_handle,
    share_endpoint,
    start_endpoint,
    stop_endpoint,
    stop_serve,
)
from deploy.answering import open_inference_pb2 as messages
from deploy.bundle import Kind, Lineage, Schema, constant_model, write_bundle
from deploy.handle import find_handle
from orchestrator.cli.drawing import print_graph
from orchestrator.domain.errors import EndpointError
from orchestrator.process_graph.graph import process_graph
from orchestrator.study import read_study

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

ROW = {"width": 1.0, "height": 2.0}
GRPC_PORT = 18701


@pytest.fixture(scope="module")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Makes a model that always says `label`, of the trial 100 + label."""
    directory = tmp_path_factory.mktemp("bundles")

    def make(label: int) -> Path:
        if (directory / str(label)).exists():
            return directory / str(label)
        return write_bundle(
            directory / str(label),
            onnx_model=constant_model(2, [float(label == other) for other in range(4)]),
            schema=Schema(columns=("width", "height"), kind=Kind.CLASSIFICATION, labels=tuple(range(4))),
            lineage=Lineage("shapes", 100 + label, 9),
            sample_rows=np.ones((2, 2), dtype=np.float32),
        )

    return make


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def shapes(ray_session: str, storage: Path, make_bundle: Callable[[int], Path]) -> Iterator[EndpointAddress]:
    stop_serve()  # where another test left it
    yield start(storage)
    for name in ("plans", "birds", "shapes"):
        if find_handle(name) is not None:
            stop_endpoint(name)
    assert stop_serve()


def start(storage: Path) -> EndpointAddress:
    return start_endpoint("shapes", storage, port=18700, grpc_port=GRPC_PORT, scale=Scale(2, 2, 0.5))


@pytest.fixture
def plans(shapes: EndpointAddress, storage: Path, make_bundle: Callable[[int], Path]) -> EndpointAddress:
    """The endpoint `plans` in the replicas of `shapes`; each has a model."""
    endpoint_handle("shapes").promote(str(make_bundle(0)))
    address = share_endpoint("plans", storage, "shapes")
    endpoint_handle("plans").promote(str(make_bundle(1)))
    return address


def processes(name: str) -> set[int]:
    """The processes in which an endpoint's replicas are, once there are two that answer."""
    found: set[int] = set()

    def are_there() -> bool:
        nonlocal found
        found = {report["pid"] for report in endpoint_handle(name).status()["replicas"] if report["version"]}
        return len(found) == 2

    wait_until(are_there, seconds=60)
    return found


def infer(model: str, token: str) -> messages.ModelInferResponse:
    tensor = messages.ModelInferRequest.InferInputTensor(
        name="rows", datatype="FP32", shape=[1, 2], contents=messages.InferTensorContents(fp32_contents=[1, 2])
    )
    with grpc.insecure_channel(f"127.0.0.1:{GRPC_PORT}") as channel:
        ask = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        request = messages.ModelInferRequest(model_name=model, inputs=[tensor])
        answer: messages.ModelInferResponse = ask(request, metadata=[("authorization", f"Bearer {token}")], timeout=30)
        return answer


def says(address: EndpointAddress) -> int:
    with Client(address.url, address.token) as client:
        return int(client.predict([ROW]).predictions[0])


def test_both_answer_from_the_same_processes_each_with_its_own_model(
    shapes: EndpointAddress, plans: EndpointAddress, storage: Path
) -> None:
    assert plans.url == f"{shapes.url}/plans"
    assert processes("plans") == processes("shapes")
    assert (says(shapes), says(plans)) == (0, 1)
    assert [infer(each.name, each.token).parameters["trial"].int64_param for each in (shapes, plans)] == [100, 101]
    tensor = {"name": "rows", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    asked = httpx.post(
        f"{shapes.url}/v2/models/plans/infer",
        json={"inputs": [tensor]},
        headers={"authorization": f"Bearer {plans.token}"},
    )
    assert (asked.status_code, asked.headers["x-trial"]) == (200, "101")
    assert share_endpoint("plans", storage, "shapes") == plans


def test_the_process_graph_says_whose_replicas_are_shared(
    shapes: EndpointAddress, plans: EndpointAddress, capsys: pytest.CaptureFixture[str]
) -> None:
    processes("plans")
    graph = process_graph()
    found = {node.name: node for node in graph.nodes if node.kind == "endpoint actor"}
    assert (found["shapes"].shares, len(found["shapes"].children)) == ("", 2)
    assert (found["plans"].shares, found["plans"].children) == ("shapes", ())
    print_graph(graph.to_dict())
    assert f"endpoint actor plans, process {found['plans'].pid}, in the replicas of shapes" in capsys.readouterr().out


def test_a_token_of_the_one_does_not_open_the_other(shapes: EndpointAddress, plans: EndpointAddress) -> None:
    for address, token in ((shapes, plans.token), (plans, shapes.token)):
        with Client(address.url, token) as client, pytest.raises(RequestRefused) as refused:
            client.predict([ROW])
        assert refused.value.status == 401
    with pytest.raises(grpc.RpcError) as raised:
        infer("plans", shapes.token)
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_others_come_and_go_while_one_answers(
    shapes: EndpointAddress, plans: EndpointAddress, storage: Path, make_bundle: Callable[[int], Path]
) -> None:
    before = processes("shapes")
    with Load(shapes, ROW) as asking, Load(plans, ROW) as beside:
        for turn in range(3):
            birds = share_endpoint("birds", storage, "shapes")
            endpoint_handle("birds").promote(str(make_bundle(2 + turn % 2)))
            assert says(birds) == 2 + turn % 2
            endpoint_handle("plans").promote(str(make_bundle(turn % 2)))
            stop_endpoint("birds")
            assert httpx.get(f"{birds.url}/v2/health/live").status_code == 401  # as any path of nobody's
    assert (asking.errors, beside.errors) == ([], [])
    assert set(asking.answers) == {(0, 100)}
    assert set(beside.answers) <= {(0, 100), (1, 101)}
    assert processes("shapes") == before
    endpoint_handle("plans").promote(str(make_bundle(1)))


def test_a_replica_that_dies_comes_back_with_all_of_them(shapes: EndpointAddress, plans: EndpointAddress) -> None:
    before = processes("shapes")
    os.kill(min(before), signal.SIGKILL)
    wait_until(lambda: processes("shapes") != before, seconds=90)
    assert processes("plans") == processes("shapes")
    assert [(says(shapes), says(plans)) for _ in range(8)] == [(0, 1)] * 8


def test_an_endpoint_actor_that_dies_finds_the_others_replicas_again(
    plans: EndpointAddress, make_bundle: Callable[[int], Path]
) -> None:
    ray.kill(endpoint_handle("plans").actor, no_restart=False)
    done = endpoint_handle("plans").promote(str(make_bundle(3)))
    assert (len(done["replicas"]), done["errors"], says(plans)) == (2, [], 3)


def test_all_come_back_together(
    shapes: EndpointAddress, plans: EndpointAddress, storage: Path, make_bundle: Callable[[int], Path]
) -> None:
    with pytest.raises(EndpointError, match=r"In the replicas of 'shapes' live plans, too\. Stop these first"):
        stop_endpoint("shapes")
    for name in ("plans", "shapes"):  # as a machine that went down: nobody left
        ray.kill(endpoint_handle(name).actor, no_restart=True)
    wait_until(lambda: find_handle("plans") is None and find_handle("shapes") is None, seconds=30)
    from ray import serve

    serve.delete("shapes")
    again = start(storage)
    assert find_handle("plans") is not None
    assert endpoint_handle("shapes").status()["residents"] == ["plans"]
    assert processes("plans") == processes("shapes")
    assert (says(again), says(plans)) == (0, 1)


@pytest.mark.parametrize(
    ("name", "owner", "reason"),
    [
        ("docs", "shapes", "names that are not its own paths can"),
        ("shapes", "shapes", "an endpoint of the name 'shapes' cannot"),
        ("birds", "plans", "it lives in those of 'shapes' itself; share that one's"),
        ("birds", "nobody", "No endpoint 'nobody' runs in this Ray cluster"),
        ("a/b", "shapes", "cannot be used"),
    ],
)
def test_replicas_that_cannot_be_shared_are_refused_with_a_reason(
    plans: EndpointAddress, storage: Path, name: str, owner: str, reason: str
) -> None:
    with pytest.raises(EndpointError, match=reason):
        share_endpoint(name, storage, owner)
    assert find_handle(name) is None or name == "shapes"


def test_storages_and_replicas_of_one_s_own_are_not_mixed_up(
    plans: EndpointAddress, storage: Path, tmp_path: Path
) -> None:
    with pytest.raises(EndpointError, match="both have to be on one"):
        share_endpoint("birds", tmp_path, "shapes")
    with pytest.raises(EndpointError, match="lives in the replicas of 'shapes', which run"):
        start_endpoint("plans", storage, scale=Scale(cpus=0.5))
    start_endpoint("birds", storage, scale=Scale(cpus=0.5))
    with pytest.raises(EndpointError, match="'birds' runs with replicas of its own; stop it first"):
        share_endpoint("birds", storage, "shapes")
    with pytest.raises(EndpointError, match="in those of 'shapes' live plans, who would be left without"):
        share_endpoint("shapes", storage, "birds")
    stop_endpoint("birds")


def test_a_study_feeds_an_endpoint_in_others_replicas(
    shapes: EndpointAddress, storage: Path, ray_session: str, make_bundle: Callable[[int], Path]
) -> None:
    endpoint_handle("shapes").promote(str(make_bundle(0)))
    given = specification(
        storage,
        "birds",
        trainable="trainables.sklearn.logistic_regression",
        data={"source": "sklearn:iris"},
        space={"C": {"min": 1e-4, "max": 10.0, "log": True}},
        objective={"metric": "val_accuracy", "goal": "maximize"},
        scheduler="none",
        budget={"trials": 4},
        resources={"cpu": 1, "concurrent": 1},
        serve={"share": "shapes"},
    )
    running = begin(given, ray_session)
    run_to_end(running)
    assert running.runner_status()["endpoint"]["url"] == f"{shapes.url}/birds"
    running.release()
    champion = read_study(storage, "birds").state.champion
    assert champion is not None
    answering = endpoint_handle("birds").status()
    assert (str(answering["version"]), answering["current"]["lineage"]["study"]) == (champion.version, "birds")
    assert {report["pid"] for report in answering["replicas"]} == processes("shapes")
    assert says(shapes) == 0

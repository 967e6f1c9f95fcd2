"""The Open Inference Protocol over gRPC, on a real server and channel in this process."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_calls import SIX, Call, Service, caller, parameter, refusal, request, service_of, tensor
from plans import write

from deploy.answering import open_inference_pb2 as messages
from deploy.answering.answer_id import parse_answer_id
from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.arms import place_of
from deploy.answering.served import Contender, ModelSlot, Served
from deploy.answering.tally import Tally
from deploy.bundle import Bundle, Lineage, write_bundle


@pytest.fixture
def digits(bundle: Bundle) -> Call:
    return caller(service_of(bundle, "digits"))


@pytest.fixture
def plans(tmp_path: Path) -> Call:
    return caller(service_of(Bundle.open(write(tmp_path / "plans")), "plans"))


# --- what it says of itself -----------------------------------------------------------------------------------------


def test_live_needs_no_token_and_no_model() -> None:
    assert caller(service_of(None, "digits"))("ServerLive", token=None).live


def test_ready_follows_the_model(digits: Call) -> None:
    empty = caller(service_of(None, "digits"))
    assert not empty("ServerReady").ready
    assert digits("ServerReady").ready
    assert digits("ModelReady", messages.ModelReadyRequest(name="digits")).ready
    assert digits("ModelReady", messages.ModelReadyRequest(name="digits", version="3")).ready
    code, why = refusal(empty, "ModelReady", messages.ModelReadyRequest(name="digits"))
    assert (code, "No model has been promoted yet" in why) == (grpc.StatusCode.UNAVAILABLE, True)


def test_server_and_model_say_what_they_are(digits: Call, plans: Call) -> None:
    assert digits("ServerMetadata").name == "orchestrator"
    said = digits("ModelMetadata", messages.ModelMetadataRequest(name="digits", version="3"))
    assert (said.name, list(said.versions), said.platform) == ("digits", ["3"], "onnx_onnxv1")
    assert [(one.name, one.datatype, list(one.shape)) for one in said.inputs] == [("rows", "FP32", [-1, 3])]
    assert [(one.name, one.datatype, list(one.shape)) for one in said.outputs] == [
        ("predictions", "BYTES", [-1]),
        ("probabilities", "FP32", [-1, 2]),
    ]
    said = plans("ModelMetadata", messages.ModelMetadataRequest(name="plans"))
    assert [(one.name, one.datatype) for one in said.inputs] == [("age", "FP32"), ("plan", "BYTES"), ("paid", "BOOL")]


# --- inference ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datatype", "field"),
    [
        ("FP32", "fp32_contents"),
        ("FP64", "fp64_contents"),
        ("INT8", "int_contents"),
        ("INT64", "int64_contents"),
        ("UINT16", "uint_contents"),
        ("UINT64", "uint64_contents"),
    ],
)
def test_contents_are_answered_with_contents(digits: Call, datatype: str, field: str) -> None:
    answer = digits("ModelInfer", request(tensor(datatype=datatype, **{field: SIX}), id="a", model_version="3"))
    assert (answer.model_name, answer.model_version, answer.id) == ("digits", "3", "a")
    assert (answer.parameters["study"].string_param, answer.parameters["trial"].int64_param) == ("digits", 12)
    predictions, probabilities = answer.outputs
    assert (list(predictions.shape), list(predictions.contents.bytes_contents)) == ([2], [b"dog", b"dog"])
    assert list(probabilities.contents.fp32_contents) == [0.25, 0.75, 0.25, 0.75]
    assert not answer.raw_output_contents


@pytest.mark.parametrize(("datatype", "dtype"), [("FP32", "<f4"), ("FP16", "<f2"), ("INT8", "i1")])
def test_raw_is_answered_raw(digits: Call, datatype: str, dtype: str) -> None:
    raw = [np.array(SIX).astype(dtype).tobytes()]
    answer = digits("ModelInfer", request(tensor(datatype=datatype), raw_input_contents=raw))
    texts, numbers = answer.raw_output_contents
    assert texts == (struct.pack("<I", 3) + b"dog") * 2
    assert np.frombuffer(numbers, "<f4").tolist() == [0.25, 0.75, 0.25, 0.75]
    assert [output.datatype for output in answer.outputs] == ["BYTES", "FP32"]
    assert not any(output.contents.ListFields() for output in answer.outputs)


def test_only_the_outputs_asked_for_come(digits: Call) -> None:
    wanted = [messages.ModelInferRequest.InferRequestedOutputTensor(name="probabilities")]
    answer = digits("ModelInfer", request(tensor(fp32_contents=SIX), outputs=wanted))
    assert [output.name for output in answer.outputs] == ["probabilities"]


@pytest.mark.parametrize("is_raw", [True, False])
def test_columns_of_texts_truths_and_missing_numbers(plans: Call, is_raw: bool) -> None:
    if is_raw:
        inputs = [tensor("plan", "BYTES", (2,)), tensor("paid", "BOOL", (2,)), tensor("age", "FP64", (2, 1))]
        texts = b"".join(struct.pack("<I", len(word)) + word for word in (b"pro", b"gold"))
        raw = [texts, b"\x01\x00", np.array([3, np.nan]).tobytes()]
        asked = request(*inputs, raw_input_contents=raw, model_name="plans")
        values = np.frombuffer(plans("ModelInfer", asked).raw_output_contents[0], "<f4").tolist()
    else:
        inputs = [
            tensor("plan", "BYTES", (2,), bytes_contents=[b"pro", b"gold"]),
            tensor("paid", "BOOL", (2,), bool_contents=[True, False]),
            tensor("age", "FP64", (2, 1), fp64_contents=[3, np.nan]),
        ]
        asked = request(*inputs, model_name="plans")
        values = list(plans("ModelInfer", asked).outputs[0].contents.fp32_contents)
    assert values == [1103, 210]


def test_hints_change_no_answer(digits: Call) -> None:
    hints = {"priority": parameter(int64_param=1), "timeout": parameter(int64_param=5), "odd": parameter()}
    assert digits("ModelInfer", request(tensor(fp32_contents=SIX), parameters=hints)).model_version == "3"


def test_a_failing_model_is_our_fault_and_is_logged(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Bundle, "predict", fail)
    service = service_of(bundle, "digits")
    code, why = refusal(caller(service), "ModelInfer", request(tensor(fp32_contents=SIX)))
    assert (code, "broken" in why, "broken" in caplog.text) == (grpc.StatusCode.INTERNAL, False, True)
    assert service.counted == (0, 0, 1)


# --- a rollout ------------------------------------------------------------------------------------------------------


@pytest.fixture
def contest(bundle: Bundle, tmp_path: Path, brittle_model: Any) -> Callable[[float], Service]:
    """A service whose challenger, version 4, says cat, and fails where the first cell is below 0.2."""
    path = write_bundle(
        tmp_path / "brittle",
        onnx_model=brittle_model(3, [0.75, 0.25], 0.2),
        schema=bundle.schema,
        lineage=Lineage("digits", 34, 27),
        sample_rows=np.ones((4, 3), dtype=np.float32),
    )

    def make(weight: float) -> Service:
        challenger = Served(Bundle.open(path), 4, 4)
        slot = ModelSlot()
        slot.put(Served(bundle, 3, 4, Contender(challenger, 5, weight, Tally(10.0))))
        return Service(EndpointApp(AppSettings("digits", "secret", max_rows=8), slot))

    return make


def test_a_call_goes_to_the_challenger_as_over_http(contest: Callable[[float], Service]) -> None:
    ask = caller(contest(1.0))
    answer = ask("ModelInfer", request(tensor(fp32_contents=SIX)))
    assert (answer.model_version, answer.parameters["trial"].int64_param) == ("4", 34)
    assert list(answer.outputs[0].contents.bytes_contents) == [b"cat", b"cat"]
    found = parse_answer_id(answer.parameters["answer_id"].string_param)
    assert found is not None
    assert (found.version, found.rollout, found.predictions) == (4, 5, ("cat", "cat"))


def test_a_failing_challenger_costs_no_call(contest: Callable[[float], Service]) -> None:
    answer = caller(contest(1.0))("ModelInfer", request(tensor(fp32_contents=[0.0] * 6)))
    assert (answer.model_version, list(answer.outputs[0].contents.bytes_contents)) == ("3", [b"dog", b"dog"])


def test_who_names_a_version_gets_that_one(contest: Callable[[float], Service]) -> None:
    asked = request(tensor(fp32_contents=SIX), model_version="3")
    assert caller(contest(1.0))("ModelInfer", asked).model_version == "3"


def test_a_key_goes_to_the_same_arm_each_time(contest: Callable[[float], Service]) -> None:
    ask, asked = caller(contest(0.5)), request(tensor(fp32_contents=SIX))
    for number in range(5):
        key = f"client-{number}"
        expected = "4" if place_of(key.encode(), 4) < 0.5 else "3"
        versions = {ask("ModelInfer", asked, x_routing_key=key).model_version for _ in range(3)}
        assert versions == {expected}

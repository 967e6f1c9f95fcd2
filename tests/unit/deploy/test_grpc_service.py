"""The Open Inference Protocol over gRPC, on a real server and channel in this process."""

import asyncio
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from plans import write

from deploy.access.named_tokens import NamedToken, Secret, TokenScope
from deploy.answering import open_inference_pb2 as messages
from deploy.answering.answer_id import parse_answer_id
from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.arms import place_of
from deploy.answering.grpc_service import SERVICE, GrpcService, add_to_server, is_this_host
from deploy.answering.served import Contender, ModelSlot, Served
from deploy.answering.shared_app import SharedApp
from deploy.answering.tally import Tally
from deploy.bundle import Bundle, Lineage, write_bundle

Call = Callable[..., Any]


class Service(GrpcService):
    def __init__(self, app: EndpointApp, is_private: bool = True) -> None:
        self._app = SharedApp(app)
        self._is_private = is_private

    @property
    def counted(self) -> tuple[int, int, int]:
        counts = self._app.own.counts
        return counts.answered, counts.refused, counts.failed


def app_of(bundle: Bundle | None, model: str, version: int = 3, token: str = "secret", **limits: int) -> EndpointApp:
    slot = ModelSlot()
    if bundle is not None:
        slot.put(Served(bundle, version, generation=3))
    return EndpointApp(AppSettings(model=model, token=token, **{"max_rows": 8, **limits}), slot)


def service_of(bundle: Bundle | None, model: str, is_private: bool = True, **limits: int) -> Service:
    return Service(app_of(bundle, model, **limits), is_private)


def caller(service: Service) -> Call:
    """Returns what makes one call: the method's name, its request, and the metadata."""

    async def call(method: str, request: Any, metadata: Any) -> Any:
        server = grpc.aio.server()
        add_to_server(service, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        try:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                ask = channel.unary_unary(
                    f"/{SERVICE}/{method}",
                    request_serializer=lambda message: message.SerializeToString(),
                    response_deserializer=getattr(messages, f"{method}Response").FromString,
                )
                return await ask(request, metadata=metadata)
        finally:
            await server.stop(None)

    def ask(method: str, request: Any = None, token: str | None = "secret", **more: str) -> Any:
        metadata = [] if token is None else [("authorization", f"Bearer {token}")]
        metadata += [(name.replace("_", "-"), value) for name, value in more.items()]
        given = getattr(messages, f"{method}Request")() if request is None else request
        return asyncio.run(call(method, given, metadata))

    return ask


@pytest.fixture
def digits(bundle: Bundle) -> Call:
    return caller(service_of(bundle, "digits"))


@pytest.fixture
def plans(tmp_path: Path) -> Call:
    return caller(service_of(Bundle.open(write(tmp_path / "plans")), "plans"))


def refusal(ask: Call, *given: Any, **named: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        ask(*given, **named)
    return raised.value.code(), raised.value.details() or ""


def tensor(name: str = "rows", datatype: str = "FP32", shape: Any = (2, 3), **contents: Any) -> Any:
    return messages.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape, contents=messages.InferTensorContents(**contents)
    )


def request(*tensors: Any, **given: Any) -> Any:
    return messages.ModelInferRequest(**{"model_name": "digits", "inputs": tensors, **given})


SIX = [1, 2, 3, 4, 5, 6]


def test_a_token_without_the_scope_is_refused_by_name(bundle: Bundle) -> None:
    service = service_of(bundle, "digits")
    watcher = NamedToken(
        "watcher",
        frozenset({TokenScope.METRICS}),
        None,
        datetime(2026, 1, 1, tzinfo=UTC),
        (Secret.of("w"),),
    )
    ended = NamedToken("old", frozenset(TokenScope), watcher.made, watcher.made, (Secret.of("o"),))
    service._app.own.keyring.put("secret", [watcher, ended])
    ask = caller(service)
    assert ask("ServerReady", token="w").ready
    whole = request(tensor(fp32_contents=SIX))
    code, why = refusal(ask, "ModelInfer", whole, token="w")
    assert (code, "'watcher' has not the scope 'predict'" in why) == (grpc.StatusCode.PERMISSION_DENIED, True)
    code, why = refusal(ask, "ModelInfer", whole, token="o")
    assert (code, "expired" in why) == (grpc.StatusCode.UNAUTHENTICATED, True)


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


@pytest.mark.parametrize("token", [None, "", "wrong"])
@pytest.mark.parametrize("method", ["ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer"])
def test_without_the_token_nothing_is_said(digits: Call, method: str, token: str | None) -> None:
    code, why = refusal(digits, method, token=token)
    assert (code, "token" in why) == (grpc.StatusCode.UNAUTHENTICATED, True)


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


def parameter(**given: Any) -> Any:
    return messages.InferParameter(**given)


@pytest.mark.parametrize(
    ("asked", "code", "reason"),
    [
        (request(model_name="digit"), grpc.StatusCode.NOT_FOUND, "no model 'digit'"),
        (request(model_version="2"), grpc.StatusCode.NOT_FOUND, "Version '2' does not answer here; version 3 does"),
        (request(), None, "Give the input tensors"),
        (request(tensor(datatype="FP33")), None, "'FP33'; known are BOOL"),
        (request(tensor(shape=(-1, 3))), None, "shape [-1, 3]; a size is 0 or more"),
        (request(tensor(shape=(9, 3), fp32_contents=[1] * 27)), None, "9 rows; a request may have 8"),
        (request(tensor(fp32_contents=[1])), None, "says shape [2, 3] and has 1 cells"),
        (request(tensor(fp64_contents=SIX)), None, "'fp64_contents'; use 'fp32_contents'"),
        (request(tensor(datatype="FP16")), None, "has to come in raw_input_contents"),
        (request(tensor(datatype="INT8", int_contents=[300] * 6)), None, "has 300, which is no INT8"),
        (request(tensor(datatype="BYTES", bytes_contents=[b"\xff"])), None, "a text that is not UTF-8"),
        (request(tensor(datatype="BYTES", bytes_contents=[b"1"] * 6)), None, "has datatype 'BYTES'; send FP32"),
        (request(tensor(fp32_contents=[float("nan")] * 6)), None, "nan is no finite"),
        (request(tensor(fp32_contents=SIX), raw_input_contents=[b"x"]), None, "has contents and raw_input_contents"),
        (request(tensor(), raw_input_contents=[b"x", b"y"]), None, "2 raw_input_contents for 1 inputs"),
        (request(tensor(), raw_input_contents=[b"x"]), None, "has 1 bytes; a cell of FP32 takes 4"),
        (
            request(
                tensor(fp32_contents=SIX), outputs=[messages.ModelInferRequest.InferRequestedOutputTensor(name="x")]
            ),
            None,
            "no output 'x'",
        ),
        (
            request(tensor(fp32_contents=SIX), parameters={"sequence_id": parameter(int64_param=3)}),
            None,
            "'sequence_id'; this server has no such extension",
        ),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    bundle: Bundle, asked: Any, code: grpc.StatusCode | None, reason: str
) -> None:
    service = service_of(bundle, "digits")
    said, why = refusal(caller(service), "ModelInfer", asked)
    assert reason in why
    assert said == (code or grpc.StatusCode.INVALID_ARGUMENT)
    assert service.counted == (0, 1, 0)


def test_hints_change_no_answer(digits: Call) -> None:
    hints = {"priority": parameter(int64_param=1), "timeout": parameter(int64_param=5), "odd": parameter()}
    assert digits("ModelInfer", request(tensor(fp32_contents=SIX), parameters=hints)).model_version == "3"


def test_a_large_request_is_refused_and_many_rows_are_answered(bundle: Bundle) -> None:
    many = request(tensor(shape=(4000, 3), fp32_contents=[1] * 12_000))
    ask = caller(service_of(bundle, "digits", max_rows=4096))
    assert len(ask("ModelInfer", many).outputs[0].contents.bytes_contents) == 4000
    code, why = refusal(caller(service_of(bundle, "digits", max_body_bytes=40_000)), "ModelInfer", many)
    assert (code, "larger than 40000 bytes" in why) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_a_long_reason_arrives(bundle: Bundle) -> None:
    code, why = refusal(caller(service_of(bundle, "digits")), "ModelInfer", request(tensor(name="🙂" * 50_000)))
    assert (code, why.startswith("The input is named '🙂🙂")) == (grpc.StatusCode.INVALID_ARGUMENT, True)


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


# --- who may call ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "is_ours"),
    [
        ("ipv4:127.0.0.1:4711", True),
        ("ipv4:127.9.9.9:4711", True),
        ("ipv6:%5B::1%5D:4711", True),
        ("ipv6:[::ffff:127.0.0.1]:4711", True),
        ("unix:/run/socket", True),
        ("ipv4:10.0.0.7:4711", False),
        ("ipv6:%5Bfe80::1%5D:4711", False),
        ("ipv6:[::ffff:10.0.0.7]:4711", False),
        ("unknown", False),
    ],
)
def test_whose_call_it_is(peer: str, is_ours: bool) -> None:
    assert is_this_host(peer) is is_ours


def test_a_private_endpoint_answers_no_other_host(bundle: Bundle) -> None:
    class Elsewhere:
        code: grpc.StatusCode | None = None

        def peer(self) -> str:
            return "ipv4:10.0.0.7:4711"

        def invocation_metadata(self) -> Any:
            return (("authorization", "Bearer secret"),)

        def set_code(self, code: grpc.StatusCode) -> None:
            self.code = code

        def set_details(self, details: str) -> None:
            assert "serve.host" in details

    for is_private in (True, False):
        service, context = service_of(bundle, "digits", is_private=is_private), Elsewhere()
        answer = asyncio.run(service.ServerReady(messages.ServerReadyRequest(), context))
        assert (context.code, answer.ready) == (
            (grpc.StatusCode.PERMISSION_DENIED, False) if is_private else (None, True)
        )


# --- what is not begun ----------------------------------------------------------------------------------------------


def test_a_call_whose_time_is_over_and_one_too_many_are_not_begun(bundle: Bundle) -> None:
    service = service_of(bundle, "digits", most_waiting=1)
    ask = caller(service)
    asked = request(tensor(fp32_contents=SIX))
    code, why = refusal(ask, "ModelInfer", asked, **{"x-request-timeout-ms": "0"})
    assert (code, "nothing was computed" in why) == (grpc.StatusCode.DEADLINE_EXCEEDED, True)
    service._app.own.admission.enter(1)
    code, why = refusal(ask, "ModelInfer", asked)
    assert (code, "wait here already" in why) == (grpc.StatusCode.RESOURCE_EXHAUSTED, True)
    service._app.own.admission.leave(1)
    assert ask("ModelInfer", asked, **{"x-request-timeout-ms": "60000"}).model_version == "3"
    assert service.counted == (1, 2, 0)

"""Callers and calls that the Open Inference Protocol over gRPC refuses, and what they are told."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from grpc_calls import SIX, Call, caller, parameter, refusal, request, service_of, tensor

from deploy.access.named_tokens import NamedToken, Secret, TokenScope
from deploy.answering import open_inference_pb2 as messages
from deploy.answering.grpc_service import is_this_host
from deploy.bundle import Bundle


@pytest.fixture
def digits(bundle: Bundle) -> Call:
    return caller(service_of(bundle, "digits"))


# --- who may call ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [None, "", "wrong"])
@pytest.mark.parametrize("method", ["ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer"])
def test_without_the_token_nothing_is_said(digits: Call, method: str, token: str | None) -> None:
    code, why = refusal(digits, method, token=token)
    assert (code, "token" in why) == (grpc.StatusCode.UNAUTHENTICATED, True)


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


# --- what is wrong with a request -----------------------------------------------------------------------------------


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


def test_a_large_request_is_refused_and_many_rows_are_answered(bundle: Bundle) -> None:
    many = request(tensor(shape=(4000, 3), fp32_contents=[1] * 12_000))
    ask = caller(service_of(bundle, "digits", max_rows=4096))
    assert len(ask("ModelInfer", many).outputs[0].contents.bytes_contents) == 4000
    code, why = refusal(caller(service_of(bundle, "digits", max_body_bytes=40_000)), "ModelInfer", many)
    assert (code, "larger than 40000 bytes" in why) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_a_long_reason_arrives(bundle: Bundle) -> None:
    code, why = refusal(caller(service_of(bundle, "digits")), "ModelInfer", request(tensor(name="🙂" * 50_000)))
    assert (code, why.startswith("The input is named '🙂🙂")) == (grpc.StatusCode.INVALID_ARGUMENT, True)


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

"""The gRPC service of an application, and calls of it on a real server and channel in this process."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from deploy.answering import open_inference_pb2 as messages
from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.grpc_service import SERVICE, GrpcService, add_to_server
from deploy.answering.served import ModelSlot, Served
from deploy.answering.shared_app import SharedApp
from deploy.bundle import Bundle

Call = Callable[..., Any]
SIX = [1, 2, 3, 4, 5, 6]


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


def parameter(**given: Any) -> Any:
    return messages.InferParameter(**given)

"""The endpoint's gRPC interface: the Open Inference Protocol's service, behind Serve's gRPC proxy.

Serve routes a call to the method of the deployment's class that is named like it. A client's fault is answered with
INVALID_ARGUMENT, NOT_FOUND or UNAUTHENTICATED and the reason; the token comes in the metadata `authorization`, as over
HTTP. Where the endpoint is for this host alone, calls from others are refused, should any come through.
"""
# ruff: noqa: N802 - the names of methods are the protocol's

import ipaddress
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError

from deploy.access.keyring import Denied
from deploy.access.named_tokens import TokenScope
from deploy.answering import open_inference_pb2 as messages
from deploy.answering.app import EndpointApp
from deploy.answering.arms import Begun
from deploy.answering.asked_model import check_model, loaded
from deploy.answering.grpc_tensors import infer_response, metadata_response, parse_request
from deploy.answering.protocol import server_metadata
from deploy.answering.served import Served
from deploy.answering.shared_app import SharedApp
from deploy.bundle import Prediction
from deploy.http.asgi import Refusal, Scope, header, too_large
from deploy.http.deadline import deadline_of
from deploy.http.routing_key import header_key
from deploy.monitoring.metrics import GRPC, UNKNOWN

logger = logging.getLogger(__name__)

SERVICE = "inference.GRPCInferenceService"
CODES: Mapping[int, grpc.StatusCode] = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
    500: grpc.StatusCode.INTERNAL,
}  # any other refusal is of what was sent: INVALID_ARGUMENT
ROUTES: Mapping[str, str] = {
    "ModelInferResponse": "infer",
    "ModelMetadataResponse": "metadata",
    "ModelReadyResponse": "ready",
    "ServerLiveResponse": "live",
    "ServerMetadataResponse": "server",
    "ServerReadyResponse": "ready",
}  # what is counted, by the answer's type: the names that it has over HTTP
Answered = TypeVar("Answered")


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What came instead of a message of that type: bytes that are none. gRPC would blame the server (UNKNOWN)."""

    type: str


class CallContext(Protocol):
    """What is used of a call: Serve's `RayServegRPCContext`, or gRPC's own."""

    def invocation_metadata(self) -> Any:
        """Returns pairs of name and value."""

    def peer(self) -> str:
        """Returns who calls, as `ipv4:127.0.0.1:4711`."""

    def set_code(self, code: grpc.StatusCode) -> None:
        """Sets the status."""

    def set_details(self, details: str) -> None:
        """Sets the reason."""


def add_to_server(servicer: Any, server: Any) -> None:
    """Adds the service to a gRPC server; Serve calls it in its proxies."""
    descriptor = messages.DESCRIPTOR.services_by_name["GRPCInferenceService"]
    handlers = {
        method.name: grpc.unary_unary_rpc_method_handler(
            getattr(servicer, method.name),
            request_deserializer=partial(read_message, getattr(messages, method.input_type.name)),
            response_serializer=getattr(messages, method.output_type.name).SerializeToString,
        )
        for method in descriptor.methods
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def read_message(kind: Any, content: bytes) -> Any:
    """Returns the message of that type, or that the bytes are none."""
    try:
        return kind.FromString(content)
    except DecodeError:
        return Unreadable(kind.DESCRIPTOR.name)


class GrpcService:
    """The service's methods, for a class that has the applications for HTTP: the model's name says which one is meant.

    `_is_private` is whether only this host may call.
    """

    _app: SharedApp
    _is_private: bool

    async def ServerLive(self, request: Any, grpc_context: CallContext) -> messages.ServerLiveResponse:
        """Says that the process answers; the only method without a token."""

        async def answer(app: EndpointApp, _: Served | None) -> messages.ServerLiveResponse:
            return messages.ServerLiveResponse(live=True)

        return await self._answer(request, grpc_context, messages.ServerLiveResponse, answer, scopes=None)

    async def ServerReady(self, request: Any, grpc_context: CallContext) -> messages.ServerReadyResponse:
        """Says whether a model answers."""

        async def answer(app: EndpointApp, served: Served | None) -> messages.ServerReadyResponse:
            return messages.ServerReadyResponse(ready=served is not None)

        return await self._answer(request, grpc_context, messages.ServerReadyResponse, answer, scopes=())

    async def ServerMetadata(self, request: Any, grpc_context: CallContext) -> messages.ServerMetadataResponse:
        """Says what this server is."""

        async def answer(app: EndpointApp, _: Served | None) -> messages.ServerMetadataResponse:
            return messages.ServerMetadataResponse(**server_metadata(app.settings.program_version))

        return await self._answer(request, grpc_context, messages.ServerMetadataResponse, answer, scopes=())

    async def ModelReady(
        self, request: messages.ModelReadyRequest, grpc_context: CallContext
    ) -> messages.ModelReadyResponse:
        """Says whether that model answers; it is refused where there is none, as over HTTP."""

        async def answer(app: EndpointApp, served: Served | None) -> messages.ModelReadyResponse:
            _asked(app, served, request.name, request.version)
            return messages.ModelReadyResponse(ready=True)

        return await self._answer(request, grpc_context, messages.ModelReadyResponse, answer, scopes=())

    async def ModelMetadata(
        self, request: messages.ModelMetadataRequest, grpc_context: CallContext
    ) -> messages.ModelMetadataResponse:
        """Says what the model takes and gives."""

        async def answer(app: EndpointApp, served: Served | None) -> messages.ModelMetadataResponse:
            return metadata_response(app.settings.model, _asked(app, served, request.name, request.version))

        return await self._answer(request, grpc_context, messages.ModelMetadataResponse, answer)

    async def ModelInfer(
        self, request: messages.ModelInferRequest, grpc_context: CallContext
    ) -> messages.ModelInferResponse:
        """Answers rows, in a rollout from either model; the metadata `x-routing-key` keeps a client to one of them."""

        async def answer(app: EndpointApp, served: Served | None) -> messages.ModelInferResponse:
            model = _asked(app, served, request.model_name, request.model_version)
            size = request.ByteSize()
            if size > app.settings.max_body_bytes:
                raise too_large(app.settings.max_body_bytes)
            work = partial(_infer, app, request, model.rollout)
            scope = _scope_of(grpc_context)
            deadline = deadline_of(scope)
            app.admission.enter(size)
            try:
                manner = app.manner(size, deadline)
                return (await app.arms.answer(model, header_key(scope), work, manner)).answer
            finally:
                app.admission.leave(size)

        return await self._answer(request, grpc_context, messages.ModelInferResponse, answer)

    async def _answer(
        self,
        request: Any,
        context: CallContext,
        empty: type[Answered],
        answer: Callable[[EndpointApp, Served | None], Awaitable[Answered]],
        *,
        scopes: tuple[TokenScope, ...] | None = (TokenScope.PREDICT,),
    ) -> Answered:
        """Returns the answer, where the token has one of the scopes (none: any token will do; None: nor is one needed).

        Else an empty one, with status and reason in the context: Serve logs what is raised.
        """
        status, reason = 200, ""
        app = self._app.named(_model_of(request))
        start, meter = time.perf_counter(), app.meter
        meter.in_flight += 1
        try:
            self._check(app, context, scopes)
            if isinstance(request, Unreadable):
                raise Refusal(400, f"The bytes that were sent are no message of type {request.type}.")
            return await answer(app, app.slot.served)
        except Denied as denied:
            app.denials.note(denied.why, denied.who, host_of(context.peer()))
            status, reason = denied.status, denied.reason
        except Refusal as refusal:
            status, reason = refusal.status, refusal.reason
        except Exception:
            logger.exception("The endpoint failed on a gRPC call.")
            status, reason = 500, "The endpoint failed on this request; its log says why."
        finally:
            app.counts.add(status)
            meter.in_flight -= 1
            meter.end(GRPC, ROUTES.get(empty.__name__, UNKNOWN), status, time.perf_counter() - start)
        context.set_code(CODES.get(status, grpc.StatusCode.INVALID_ARGUMENT))
        context.set_details(reason)
        nothing: Answered = empty()
        return nothing

    def _check(self, app: EndpointApp, context: CallContext, scopes: tuple[TokenScope, ...] | None) -> None:
        if self._is_private and not is_this_host(context.peer()):
            raise Denied(
                403,
                "This endpoint answers its own host alone; its study's serve.host opens it to others.",
                "",
                why="another host",
            )
        if scopes is None:
            return
        caller = app.keyring.caller(header(_scope_of(context), b"authorization"))
        if scopes:
            caller.require(*scopes)


def _infer(
    app: EndpointApp, request: messages.ModelInferRequest, rollout: int, model: Served
) -> Begun[messages.ModelInferResponse]:
    asked = parse_request(request, model.bundle.schema, app.settings.max_rows)

    def finish(prediction: Prediction) -> messages.ModelInferResponse:
        answer = infer_response(app.settings.model, model, prediction, asked)
        answer.parameters["answer_id"].string_param = app.ids.make(model.version, rollout, prediction)
        return answer

    return Begun(asked.rows, finish)


def _asked(app: EndpointApp, served: Served | None, name: str, version: str) -> Served:
    check_model(name, app.settings.model)
    model = loaded(served, version or None)
    return replace(model, contender=None) if version else model  # whoever names a version gets that one


def _model_of(request: Any) -> str:
    """Returns the name of the model that a message asks for; empty where it asks for none."""
    return str(getattr(request, "model_name", "") or getattr(request, "name", ""))


def _scope_of(context: CallContext) -> Scope:
    """Returns a call's metadata as the headers of a request; those that are no text (`-bin`) are left out."""
    metadata = context.invocation_metadata()
    return {"headers": [(name.encode(), value.encode()) for name, value in metadata if isinstance(value, str)]}


def host_of(peer: str) -> str:
    """Returns the address of a gRPC peer, such as `ipv4:127.0.0.1:4711` or `ipv6:%5B::1%5D:4711`."""
    return unquote(peer).partition(":")[2].rpartition(":")[0].strip("[]")


def is_this_host(peer: str) -> bool:
    """Returns whether a gRPC peer calls from this host."""
    if peer.startswith("unix:"):
        return True
    try:
        address = ipaddress.ip_address(host_of(peer))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback

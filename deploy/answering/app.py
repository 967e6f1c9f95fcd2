"""The endpoint's HTTP interface: one pure ASGI application.

    GET  /v2/health/live                       the process answers; without a token
    GET  /docs                                 a page for people, which asks for the token; without one itself
    GET  /openapi.json                         the model's columns, labels and an example, as OpenAPI 3.1
    GET  /v2/health/ready                      a model answers
    GET  /v2, /v2/models/{m}[/versions/{v}][/ready]
    POST /v2/models/{m}[/versions/{v}]/infer   Open Inference Protocol v2, tensors as JSON or bytes
    POST /predict                              rows as JSON, CSV or an Arrow IPC stream; the answer as Accept says
    POST /feedback                             true labels of answers, by their ids
    GET  /metrics                              numbers of all replicas, as Prometheus reads them
    .... /admin/...                            decisions about the endpoint: see `admin`

Every answer says which version and trial gave it, in its body and in its headers, and has an id. A client's fault is a
4xx with `{"error": reason}`, never a 5xx. No framework: routing and checks of one row take about 0.05 ms.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from deploy.access.denials import Denials
from deploy.access.keyring import Caller, Denied, Keyring, presented_hash
from deploy.answering.answer_id import AnswerIds
from deploy.answering.answers import prediction_answer
from deploy.answering.arms import Arms, Begun, Manner, Work
from deploy.answering.asked_model import check_model, loaded
from deploy.answering.batching import Batcher
from deploy.answering.desk import Desk, origin_of
from deploy.answering.feedback import Waiting, parse_feedback
from deploy.answering.openapi import openapi_document
from deploy.answering.protocol import BINARY_HEADER, inference_answer, model_metadata, parse_inference, server_metadata
from deploy.answering.routes import ADMIN, INFER, METRICS, MODEL, PREDICT, find_route
from deploy.answering.served import ModelSlot, Served
from deploy.bundle import Prediction
from deploy.formats.predict_rows import read_rows
from deploy.formats.rows import parse_json
from deploy.http.admission import Admission
from deploy.http.asgi import (
    Answer,
    Header,
    Receive,
    Refusal,
    Scope,
    Send,
    header,
    held_bytes,
    live_through,
    read_body,
    send_answer,
)
from deploy.http.deadline import GRPC_HEADER, TIMEOUT_HEADER, deadline_of
from deploy.http.docs_page import docs_page
from deploy.http.media import JSON, answer_media, body_media
from deploy.http.patience import BODY_SECONDS, Patience
from deploy.http.routing_key import KEY_FIELD, KEY_HEADER, header_key, take_key
from deploy.monitoring.metrics import HTTP, UNKNOWN, Meter

logger = logging.getLogger(__name__)

INLINE_BYTES = 16 * 1024  # a larger body may take milliseconds: it leaves the event loop to other requests
OPEN_PATHS = frozenset({"/v2/health/live", "/docs"})  # the only ones without a token; neither tells of the model
ROUTE = "orchestrator.route"  # where a connection's scope says which route was found, for whoever counts
ID_HEADER = b"x-answer-id"
PLAIN_MEDIA = JSON.encode()
NOT_PLAIN = frozenset({b"content-encoding", KEY_HEADER, TIMEOUT_HEADER, GRPC_HEADER, BINARY_HEADER})


@dataclass(frozen=True, slots=True)
class AppSettings:
    """What the application is told once: its name, the endpoint's own token, and how large a request may be.

    Of requests for answers it holds `most_waiting` and `most_waiting_bytes` at once, and refuses more (429).
    `latency_seconds` is aimed at when requests share a call of the model.
    """

    model: str
    token: str
    max_body_bytes: int = 8 * 1024 * 1024
    max_rows: int = 4096
    most_waiting: int = 512
    most_waiting_bytes: int = 128 * 1024 * 1024
    latency_seconds: float | None = None
    program_version: str = "0.1.0"
    body_seconds: float = BODY_SECONDS


class Plain(NamedTuple):
    """What a head says after which only the body counts: what is asked for, and the hash of the token presented."""

    action: str
    presented: bytes


PlainPaths = Mapping[bytes, tuple["EndpointApp", str]]
"""By path: which application answers, and what it is asked for."""


@dataclass(slots=True)
class Counts:
    """Requests by how they ended; written by the event loop only."""

    answered: int = 0
    refused: int = 0
    failed: int = 0

    def add(self, status: int) -> None:
        """Counts one answer by its status."""
        if status < 400:
            self.answered += 1
        elif status < 500 or status in (503, 504):  # neither is a failure: nothing was begun
            self.refused += 1
        else:
            self.failed += 1


class EndpointApp:
    """Answers HTTP requests from the model in its slot.

    `plain_paths` are those for which `at_once` may have the answer, below the application's prefix.
    """

    def __init__(
        self, settings: AppSettings, slot: ModelSlot, keyring: Keyring | None = None, desk: Desk | None = None
    ) -> None:
        """Makes the application.

        Args:
            settings: what it is told once.
            slot: holds the model.
            keyring: the tokens that open it; None: the endpoint's own alone.
            desk: takes what is asked below `/admin` and of `/metrics`; None: nobody does.
        """
        self.settings = settings
        self.slot = slot
        self.keyring = keyring or Keyring(settings.token)
        self._desk = desk
        self.ids = AnswerIds()
        self.meter = Meter()
        self.batcher = Batcher(self.meter, settings.latency_seconds)
        self.arms = Arms(self.batcher)
        self.admission = Admission(settings.most_waiting, settings.most_waiting_bytes)
        self.feedback = Waiting()
        self.counts = Counts()
        self._patience = Patience(settings.body_seconds)
        self.denials = Denials()
        inference = f"/v2/models/{settings.model}/infer".encode()
        self.plain_paths: PlainPaths = {b"/predict": (self, PREDICT), inference: (self, INFER)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection."""
        if scope["type"] == "lifespan":
            return await live_through(receive, send)
        if scope["type"] != "http":
            raise ValueError(f"A connection of type {scope['type']!r} is not served; this endpoint speaks HTTP.")
        served = self.slot.served  # read once: check and answer come from the same model
        start, meter = time.perf_counter(), self.meter
        meter.in_flight += 1
        try:
            answer = await self._answer(scope, receive, served)
        finally:  # a client that hangs up may cancel this
            meter.in_flight -= 1
        self.counts.add(answer.status)
        meter.end(HTTP, scope.get(ROUTE, UNKNOWN), answer.status, time.perf_counter() - start)
        says_who = served is not None and answer.status != 401 and _path(scope) not in OPEN_PATHS
        if served is not None and says_who and not _is_signed(answer):
            answer = answer._replace(headers=answer.headers + served.headers)
        return await send_answer(send, answer)

    @staticmethod
    def plain(action: str, headers: Sequence[Header]) -> Plain | None:
        """Returns what a request's head says; None for one that `at_once` may not answer, whatever its body is.

        Args:
            action: what the request's path in `plain_paths` asks for.
            headers: all of them, with names in lower case.
        """
        known = dict(headers)
        presented = presented_hash(known.get(b"authorization"))
        if presented is None or len(known) != len(headers) or not _is_plain(action, known):
            return None
        return Plain(action, presented)

    def at_once(self, plain: Plain, body: bytes) -> Answer | None:
        """Returns the answer to a request for predictions that is plain: small, of JSON, with nothing to wait for.

        It is counted as any other. None: nothing has happened, and the request has to come by `__call__`, which also
        says what is wrong with it.

        Args:
            plain: what the request's head says.
            body: all of it, of `INLINE_BYTES` at most.
        """
        served, start, action = self.slot.served, time.perf_counter(), plain.action
        predicts = action == PREDICT
        if served is None or (predicts and KEY_FIELD in body):
            return None
        caller = self.keyring.holder(plain.presented)
        if caller is None or caller.scopes.isdisjoint(MODEL):
            return None
        size = len(body)
        try:
            self.admission.enter(size)
        except Refusal:
            return None
        try:
            work = self._work(JSON, JSON, body, served.rollout) if predicts else self._inference(body, None, served)
            worked = self.arms.at_once(served, work, alone=self.admission.inside == 1)
        except Exception:  # noqa: BLE001 - whatever it is, it comes again the other way, which knows what to say
            return None
        finally:
            self.admission.leave(size)
        if worked is None:
            return None
        self.counts.add(200)
        self.meter.end(HTTP, action, 200, time.perf_counter() - start)
        return worked.answer

    async def _answer(self, scope: Scope, receive: Receive, served: Served | None) -> Answer:
        try:
            return await self._route(scope, receive, served)
        except Denied as denied:
            self.denials.note(denied.why, denied.who, origin_of(scope))
            return denied.answer()
        except Refusal as refusal:
            return refusal.answer()
        except Exception:
            logger.exception("The endpoint failed on %s %s.", scope["method"], scope["path"])
            return Answer({"error": "The endpoint failed on this request; its log says why."}, 500)

    async def _route(self, scope: Scope, receive: Receive, served: Served | None) -> Answer:
        path = _path(scope)
        caller = None if path in OPEN_PATHS else self.keyring.caller(header(scope, b"authorization"))
        route = find_route(scope["method"], path)
        scope[ROUTE] = route.action if route.decision is None else route.decision
        if caller is not None and route.scopes:
            caller.require(*route.scopes)
        if route.action == "live":
            return Answer({"live": True})
        if route.action == "docs":
            return docs_page()
        if route.action == "ready" and route.model is None:
            return Answer({"ready": served is not None}, 200 if served else 503)
        if route.action == "server":
            return Answer(server_metadata(self.settings.program_version))
        if route.action == "feedback":
            return await self._take_labels(scope, receive)
        if caller is not None and route.action in (ADMIN, METRICS):
            return await self._consult(route.decision, caller, scope, receive)
        check_model(route.model, self.settings.model)
        model = loaded(served, route.version)
        if route.action == "ready":
            return Answer({"name": self.settings.model, "ready": True})
        if route.action == "metadata":
            return Answer(model_metadata(self.settings.model, model))
        if route.action == "openapi":
            return Answer(self._document(scope, model))
        if route.version is not None:
            model = replace(model, contender=None)  # whoever names a version gets that one
        work = self._predict if route.action == PREDICT else self._infer
        size = held_bytes(scope, self.settings.max_body_bytes)
        self.admission.enter(size)
        try:
            return await work(scope, receive, model, deadline_of(scope))
        finally:
            self.admission.leave(size)

    async def _consult(self, decision: str | None, caller: Caller, scope: Scope, receive: Receive) -> Answer:
        """Returns what the desk says; it is asked for the numbers where there is no decision."""
        if self._desk is None:
            raise Refusal(503, "Nobody is there to ask about this endpoint; a running replica has somebody.")
        if decision is None:
            return await self._desk.metrics()
        return await self._desk.answer(decision, caller, scope, receive)

    def _document(self, scope: Scope, served: Served) -> dict[str, Any]:
        settings = self.settings
        return openapi_document(
            settings.model,
            served,
            server=scope.get("root_path", "") or "/",
            max_rows=settings.max_rows,
            max_bytes=settings.max_body_bytes,
        )

    async def _predict(self, scope: Scope, receive: Receive, served: Served, deadline: float | None) -> Answer:
        media, wanted = body_media(scope), answer_media(scope)
        body, key = await read_body(scope, receive, self.settings.max_body_bytes, self._patience), header_key(scope)
        if media == JSON and key is None:
            body, key = take_key(body) if len(body) <= INLINE_BYTES else await asyncio.to_thread(take_key, body)

        work = self._work(media, wanted, body, served.rollout)
        return (await self.arms.answer(served, key, work, self.manner(len(body), deadline))).answer

    def _work(self, media: str, wanted: str, body: bytes, rollout: int) -> Work[Answer]:
        """Returns what reads rows of the kind `media` for a model, and writes its answer as `wanted`."""

        def work(model: Served) -> Begun[Answer]:
            def finish(prediction: Prediction) -> Answer:
                identity = self.ids.make(model.version, rollout, prediction)
                answer = prediction_answer(wanted, model, prediction)
                if answer.content is not None:
                    answer.content["id"] = identity
                return _signed(answer, model, identity)

            return Begun(read_rows(media, body, model.bundle.schema, self.settings.max_rows), finish)

        return work

    async def _infer(self, scope: Scope, receive: Receive, served: Served, deadline: float | None) -> Answer:
        body = await read_body(scope, receive, self.settings.max_body_bytes, self._patience)
        work = self._inference(body, header(scope, BINARY_HEADER), served)
        return (await self.arms.answer(served, header_key(scope), work, self.manner(len(body), deadline))).answer

    def _inference(self, body: bytes, json_length: bytes | None, served: Served) -> Work[Answer]:
        """Returns what reads the tensors of a body for a model, and writes its answer; `served` is the champion."""

        def work(model: Served) -> Begun[Answer]:
            asked = parse_inference(body, json_length, model.bundle.schema, self.settings.max_rows)

            def finish(prediction: Prediction) -> Answer:
                identity = self.ids.make(model.version, served.rollout, prediction)
                return _signed(inference_answer(self.settings.model, model, prediction, asked), model, identity)

            return Begun(asked.rows, finish)

        return work

    def manner(self, size: int, deadline: float | None) -> Manner:
        """Returns how a request of `size` bytes that has just been read is to be answered."""
        return Manner(size > INLINE_BYTES, self.admission.inside == 1, deadline)

    async def _take_labels(self, scope: Scope, receive: Receive) -> Answer:
        judgements = parse_feedback(
            parse_json(await read_body(scope, receive, self.settings.max_body_bytes, self._patience))
        )
        self.feedback.add(judgements)
        return Answer({"accepted": len(judgements)}, 202)


def _is_plain(action: str, headers: Mapping[bytes, bytes]) -> bool:
    """Returns whether nothing but the body says how a request is to be answered."""
    if action == INFER:  # which is JSON whatever its headers say
        return NOT_PLAIN.isdisjoint(headers)
    return (
        headers.get(b"content-type") == PLAIN_MEDIA
        and headers.get(b"accept") in (None, b"*/*", PLAIN_MEDIA)
        and NOT_PLAIN.isdisjoint(headers)
    )


def _path(scope: Scope) -> str:
    """Returns the path below the endpoint's own prefix."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path


def _signed(answer: Answer, model: Served, identity: str) -> Answer:
    """Returns the answer with who gave it, and its id, in its headers."""
    headers = (*answer.headers, *model.headers, (ID_HEADER, identity.encode()))
    return Answer(answer.content, answer.status, headers, answer.body, answer.media)  # `_replace` takes twice as long


def _is_signed(answer: Answer) -> bool:
    return bool(answer.headers) and answer.headers[-1][0] == ID_HEADER

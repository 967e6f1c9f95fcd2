"""The few things of ASGI that the endpoint needs: read a body, send an answer, refuse with a reason.

Follows the ASGI 3.0 specification (HTTP and Lifespan protocols).
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, NamedTuple

import orjson

from deploy.http.patience import Patience

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]


BY_NAME = "orchestrator.headers"  # in a scope, as ASGI lets applications keep things there
MOST_DIGITS = 18  # of a length: more are no length of anything, and Python refuses to read 4300 of them
REASON_CHARACTERS = 600  # gRPC carries it in a header of 8 KiB, where a character takes up to twelve bytes


class Answer(NamedTuple):  # which is made in half the time that a frozen dataclass takes, for each request
    """What is sent back: a status, and headers beside the usual ones.

    The body is `content` as JSON, or where there is one `body` as it is, of type `media`.
    """

    content: Any = None
    status: int = 200
    headers: tuple[Header, ...] = ()
    body: bytes | None = None
    media: str = "application/json"


class Refusal(Exception):
    """A request that cannot be answered as asked: the client's reason, with its HTTP status.

    A reason quotes what was sent, which may be megabytes: only its first part is kept.
    """

    def __init__(self, status: int, reason: str, headers: Sequence[Header] = ()) -> None:
        short = reason if len(reason) <= REASON_CHARACTERS else f"{reason[:REASON_CHARACTERS]}…"
        super().__init__(short)
        self.status = status
        self.reason = short
        self.headers = tuple(headers)

    def answer(self) -> Answer:
        """Returns what is sent back."""
        return Answer({"error": self.reason}, self.status, self.headers)


def header(scope: Scope, name: bytes) -> bytes | None:
    """Returns the first header of that (lower case) name."""
    known: dict[bytes, bytes] | None = scope.get(BY_NAME)
    if known is None:  # several are asked for: one pass over them is cheaper than one for each
        known = scope[BY_NAME] = {key.lower(): value for key, value in reversed(scope["headers"])}
    return known.get(name)


async def read_body(scope: Scope, receive: Receive, limit_bytes: int, patience: Patience | None = None) -> bytes:
    """Returns the whole body.

    Args:
        scope: of the request.
        receive: gives the body's pieces.
        limit_bytes: how large it may be.
        patience: gives it up where it does not come; None: never.

    Raises:
        Refusal: 413 when it is larger than `limit_bytes`, as soon as that is known; 415 when it is compressed, because
            a few bytes could become gigabytes; 400 when the client hung up; 408 when it did not come in time.
    """
    if (header(scope, b"content-encoding") or b"identity").strip().lower() != b"identity":
        raise Refusal(415, "Bodies are not taken compressed; send it without Content-Encoding.")
    said = _said_bytes(scope)
    if said is not None and said > limit_bytes:
        raise too_large(limit_bytes)
    if patience is None:
        return await _whole_body(receive, limit_bytes)
    task = patience.begin()
    try:
        return await _whole_body(receive, limit_bytes)
    except asyncio.CancelledError:
        if not patience.end(task):
            raise
        raise Refusal(408, f"The body did not come within {patience.seconds:g} s.") from None
    finally:
        patience.end(task)


async def _whole_body(receive: Receive, limit_bytes: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await _next_message(receive)
        if message["type"] == "http.disconnect":
            raise Refusal(400, "The connection was closed before the whole body had come.")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise too_large(limit_bytes)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def held_bytes(scope: Scope, limit_bytes: int) -> int:
    """Returns the most bytes that the body may turn out to have: what its header says, else the limit."""
    said = _said_bytes(scope)
    return limit_bytes if said is None else min(said, limit_bytes)


def _said_bytes(scope: Scope) -> int | None:
    said = header(scope, b"content-length")
    if said is None or not said.isdigit():
        return None
    return int(said[:MOST_DIGITS])


async def _next_message(receive: Receive) -> Message:
    """Returns the next part of the body; a server that cannot say any more has lost its client, or is lost itself.

    Serve's proxy hands bodies to the replica on demand, and the call for it fails in one of Ray's ways when the proxy
    has died: nobody waits for the answer then, and nothing here has failed.
    """
    try:
        return await receive()
    except Exception as error:
        raise Refusal(400, "The connection was lost before the whole body had come.") from error


def body_of(answer: Answer) -> bytes:
    """Returns the bytes of an answer's body."""
    return orjson.dumps(answer.content, option=orjson.OPT_SERIALIZE_NUMPY) if answer.body is None else answer.body


def encoded(answer: Answer) -> tuple[list[Header], bytes]:
    """Returns an answer's headers, its length among them, and its body."""
    body = body_of(answer)
    length = str(len(body)).encode()
    return [(b"content-type", answer.media.encode()), (b"content-length", length), *answer.headers], body


async def send_answer(send: Send, answer: Answer) -> None:
    """Sends the answer with its length."""
    headers, body = encoded(answer)
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def live_through(receive: Receive, send: Send) -> None:
    """Says yes to the server's start and end; there is nothing of ours to do at either."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def too_large(limit_bytes: int) -> Refusal:
    """Returns the refusal of a body with too many bytes."""
    return Refusal(413, f"The body is larger than {limit_bytes} bytes. Send fewer rows in a request.")

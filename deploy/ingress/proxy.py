"""Serve's own proxy, held to the limits that HAProxy has: how large a request's header may be, and how long it takes.

Its server, uvicorn, has neither: a client without a token could fill the proxy's memory with one header, or hold
connections for ever. Serve calls `prepare` by its name in each proxy's process before the server is made (the callback
for middlewares). Written against uvicorn 0.54's `HttpToolsProtocol`.
"""

import asyncio
from functools import partial
from typing import Any

import orjson
from uvicorn import config
from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from deploy.ingress import grpc_door
from deploy.ingress.haproxy_door import HEADER_SECONDS
from deploy.ingress.renewal import renew_haproxy, renewing_context

# Of Serve's controller, whose environment proxies inherit. A replica's own is another one (`shortcut`).
ENVIRONMENT = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "deploy.ingress.proxy.prepare"}
HEADER_BYTES = 30 * 1024  # as in HAProxy, whose buffer of 32 KiB has to hold it with what is added
REASONS = {
    408: f"The request's header did not come within {HEADER_SECONDS:g} s of its first byte.",
    431: f"The request's header is larger than {HEADER_BYTES} bytes.",
}
PHRASES = {408: "Request Timeout", 431: "Request Header Fields Too Large"}


def prepare() -> list[Any]:
    """Makes this process's servers as they should be, before there is one; returns no middlewares."""
    auto.AutoHTTPProtocol = LimitedProtocol
    config.create_ssl_context = partial(renewing_context, config.create_ssl_context)
    grpc_door.close()
    renew_haproxy()  # where this one stands beside it
    return []


class TooLarge(Exception):
    """A header of too many bytes; raised within the parser, which ends at it."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection. Used by one event loop."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._timer: asyncio.TimerHandle | None = None
        self._is_in_header = False
        self._bytes = 0  # of the header that is coming

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Begins the connection; one that asks for nothing is kept as long as one that asks no more."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection."""
        self._forget_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads bytes of the client's; a header that is not whole by then may be too large already."""
        self._bytes += len(data) if self._is_in_header else 0
        super().data_received(data)
        if self._is_in_header and self._bytes > HEADER_BYTES and not self.transport.is_closing():
            self._refuse(431)

    def on_message_begin(self) -> None:
        """Begins a request, whose header has its time from now on."""
        super().on_message_begin()
        self._is_in_header, self._bytes = True, 0
        self._forget_timer()
        self._timer = self.loop.call_later(HEADER_SECONDS, self._refuse, 408)

    def on_headers_complete(self) -> None:
        """Begins the answer, unless the header is too large."""
        self._forget_timer()
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > HEADER_BYTES:
            self._bytes = HEADER_BYTES + 1
            raise TooLarge  # the parser ends with an error of its own, for which `send_400_response` is called
        self._is_in_header = False
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Says what is wrong with a request that could not be read."""
        self._forget_timer()
        if self._is_in_header and self._bytes > HEADER_BYTES:
            self._refuse(431)
        else:
            super().send_400_response(msg)

    def _refuse(self, status: int) -> None:
        """Answers with the reason and hangs up; only hangs up where the answer to a request before is on its way."""
        self._forget_timer()
        if self.cycle is None or self.cycle.response_complete:
            body = orjson.dumps({"error": REASONS[status]})
            head = f"HTTP/1.1 {status} {PHRASES[status]}\r\ncontent-type: application/json\r\nconnection: close\r\n"
            self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        self.transport.close()

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

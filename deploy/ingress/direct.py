"""The shortest way of a request through a replica's own server: read, answered and written in one step.

Of uvicorn a small request for predictions needs the parser alone; the rest of it (a task, an event, a dictionary of
what was asked, messages for the body, the head and the end of an answer) costs as much as the answer does. This
protocol hands such a request to `EndpointApp.at_once` when it has come whole, and writes what that returns. Where it
comes in one piece with a head that is known (`heads`) not even the parser is asked. Whatever is not plain takes
uvicorn's way from its beginning: another path, a body that comes in pieces, a request behind one that is not answered
yet, and all that the application would refuse. So there is one place that says no.

Written against uvicorn 0.54's `HttpToolsProtocol`.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from uvicorn.protocols.http import auto
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from deploy.answering.app import INLINE_BYTES, EndpointApp, Plain
from deploy.answering.shared_app import SharedApp
from deploy.http.asgi import Answer
from deploy.ingress.heads import Came, Found, Head, Heads, written
from deploy.ingress.turns import LONGEST, Turns, turns_of

ENDINGS = (b"/predict", b"/infer")


@runtime_checkable
class Front(Protocol):
    """What stands before an endpoint's application, and knows which one it is."""

    def behind(self) -> Found:
        """Returns the application and the prefix of its paths; None where requests have to go through the front."""


class DirectProtocol(HttpToolsProtocol):
    """One connection. Used by one event loop."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        front = front_of(self.app)
        # asked for each request, and looked at here once: to see whether a protocol is kept takes a microsecond
        found: Found = None if front is None or isinstance(front, Front) else (front, "")
        self._behind: Callable[[], Found] = front.behind if isinstance(front, Front) else lambda: found
        # the application and what it is asked for, of the request that waits here for its body, unknown to uvicorn
        self._endpoint: tuple[EndpointApp, Plain] | None = None
        self._body = b""
        self._heads = heads_of(self.server_state)
        self._is_between = True  # requests, of which uvicorn had none: what comes begins with a head
        self._came: Came | None = None  # the head that is new, until its request is answered
        self._is_denied = False  # by the endpoint's shortest way, to the request that the parser gets now
        self._idle_since: float | None = None
        self._turns: Turns = turns_of(self.loop)
        self._unread = b""  # what came in a short turn, and waits for a later one

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn narrows it
        """Begins the connection, and lets others come."""
        self._turns.came()
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets the connection, and when it was to be closed."""
        self._forget_timer()
        self._unread = b""
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begins a request; what uvicorn keeps of one is made where uvicorn gets it."""
        self.url, self.headers, self.expect_100_continue = b"", [], False
        self._is_between = False

    def data_received(self, data: bytes) -> None:
        """Takes bytes of the client's, or keeps them for a later turn; not when more come before it."""
        if self._turns.are_short and not self._unread and len(data) <= LONGEST:
            self._unread = data
            self._turns.wait(self._read_on)
            return
        self._read_on()
        self._read(data)

    def _read_on(self) -> None:
        """Reads what was kept, if it was not read meanwhile."""
        if self._unread:
            data, self._unread = self._unread, b""
            self._read(data)

    def _read(self, data: bytes) -> None:
        """Reads bytes of the client's; a request that is not whole behind them is uvicorn's."""
        if self._is_between and self._is_answered(data):
            return
        super().data_received(data)
        self._came, self._is_denied = None, False
        if self._endpoint is not None:
            self._give_up()

    def _is_answered(self, data: bytes) -> bool:
        """Answers a whole request whose head is known; returns False where the parser has to read it."""
        self._came = came = Heads.came(data)
        if came is None:
            return False
        head = self._heads.find(self._behind(), came)
        if head is None or len(data) != came.length + head.size or not self._is_free():
            return False
        answer = head.app.at_once(head.plain, data[came.length :])
        if answer is None:
            self._is_denied = True
            return False
        self._write(answer)
        return True

    def eof_received(self) -> None:
        """Reads what was kept before the client's end of the connection counts."""
        self._read_on()
        super().eof_received()

    def shutdown(self) -> None:
        """Reads what was kept before the connection is closed, with the server."""
        self._read_on()
        super().shutdown()

    def on_headers_complete(self) -> None:
        """Keeps a request that may be plain."""
        self._body = b""
        self._endpoint = self._wanted()
        if self._endpoint is None:
            self._give()

    def on_body(self, body: bytes) -> None:
        """Keeps a part of the body."""
        if self._endpoint is None:
            super().on_body(body)
            return
        self._body += body
        if len(self._body) > INLINE_BYTES:
            self._give_up()

    def on_message_complete(self) -> None:
        """Answers a request that is whole, or has uvicorn do it."""
        if self._endpoint is not None:
            endpoint, plain = self._endpoint
            answer = endpoint.at_once(plain, self._body)
            if answer is not None:
                self._endpoint = None
                self._learn(endpoint, plain)
                self._write(answer)
                return
            self._give_up()
        self._came = None  # what follows in the same piece has a head of its own
        super().on_message_complete()

    def _learn(self, endpoint: EndpointApp, plain: Plain) -> None:
        """Remembers the head of the request that is answered now, where it began what came, and says its length."""
        came, self._came = self._came, None
        if came is not None and dict(self.headers).get(b"content-length") == str(len(self._body)).encode():
            self._heads.learn(self._behind(), came, Head(endpoint, plain, len(self._body)))

    def _wanted(self) -> tuple[EndpointApp, Plain] | None:
        """Returns the application and what it is asked for where the request may be plain."""
        parser = self.parser
        if self._is_denied or not self.url.endswith(ENDINGS):
            return None
        if self.expect_100_continue or not self._is_free():
            return None
        if parser.get_method() != b"POST" or parser.get_http_version() != "1.1" or not parser.should_keep_alive():
            return None
        found = self._behind()
        if found is None or parser.should_upgrade():
            return None
        prefix = found[1].rstrip("/").encode()
        wanted = found[0].plain_paths.get(self.url[len(prefix) :]) if self.url.startswith(prefix) else None
        plain = None if wanted is None else wanted[0].plain(wanted[1], self.headers)
        return None if wanted is None or plain is None else (wanted[0], plain)

    def _is_free(self) -> bool:
        """Returns whether an answer may be written now: none is on its way, and the client takes what it gets."""
        is_over = self.cycle is None or self.cycle.response_complete
        return is_over and not self.flow.write_paused and not self.transport.is_closing()

    def _give_up(self) -> None:
        """Has uvicorn begin with the request that was kept, as if it came now."""
        self._endpoint = None
        self._give()
        if self._body:
            super().on_body(self._body)

    def _give(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        super().on_url(url)
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()

    def _write(self, answer: Answer) -> None:
        self.transport.write(written(self.server_state.default_headers, answer))
        self._is_between = True
        self.server_state.total_requests += 1
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._close_in(self.timeout_keep_alive)

    # One timer for a connection: to make one for each request costs as much as to read it.

    def _close_in(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """Notes that something came; uvicorn calls this where it would end its timer."""
        self._idle_since = None

    def on_response_complete(self) -> None:
        """Ends a request that uvicorn answered; it begins a timer of its own."""
        self._forget_timer()
        super().on_response_complete()
        self._idle_since = self.loop.time()

    def timeout_keep_alive_handler(self) -> None:
        """Closes the connection where nothing came for long; else looks again when that may be."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None or self._unread:
            return  # a request is being answered, or waits for it, and the timer begins when that is done
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._close_in(left)
        else:
            super().timeout_keep_alive_handler()

    def _forget_timer(self) -> None:
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None


_HEADS: WeakKeyDictionary[ServerState, Heads] = WeakKeyDictionary()


def heads_of(server: ServerState) -> Heads:
    """Returns the heads that a server has read, which all its connections share."""
    heads = _HEADS.get(server)
    if heads is None:
        heads = _HEADS[server] = Heads()
    return heads


def front_of(app: Any) -> EndpointApp | SharedApp | Front | None:
    """Returns the application itself or what knows it, under the middleware that uvicorn puts around."""
    while app is not None and not isinstance(app, EndpointApp | SharedApp | Front):
        app = getattr(app, "app", None)
    return app


def install() -> None:
    """Has the servers that this process makes from now on use the protocol, where nobody names another one.

    Serve names none, and has no place for one.
    """
    auto.AutoHTTPProtocol = DirectProtocol

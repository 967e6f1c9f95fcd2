"""The way of a request from a replica's own HTTP server, behind HAProxy, into the endpoint's application.

Serve does more between the two than the whole answer costs: ids, a task and a queue for the body, tracing, tags of
metrics, log lines that nobody reads. Of all that an endpoint needs one thing, the count of the replica's requests that
go on, by which Serve scales replicas and waits before it ends one. This middleware keeps it and goes straight on; what
is Serve's own (`/-/`) and what is under no prefix of ours goes Serve's way, as everything does where this process is
not as expected. Serve's limits on waiting requests are not met on this way: `Admission` bounds them.

Serve asks the function `middlewares` by its name in a replica's environment, once. Behind Serve's own proxy a replica
has no HTTP server, and nothing of this is used. Read in Ray 2.60's `serve/_private/replica.py` and `http_util.py`.
"""

import asyncio
import logging
from typing import Any

from starlette.middleware import Middleware

from deploy.answering.shared_app import SharedApp
from deploy.http.asgi import Receive, Scope, Send
from deploy.ingress.direct import install
from deploy.ingress.renewal import renew_haproxy

logger = logging.getLogger(__name__)

# Of a replica. Its application runs in the event loop of its server: a thread of its own would cost each request two
# changes of threads. Nothing of ours holds the loop for long: what takes a millisecond or more has a thread.
ENVIRONMENT = {
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "deploy.ingress.shortcut.middlewares",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
}
SERVES_OWN = "/-/"


def middlewares() -> list[Middleware]:
    """Returns what Serve puts in front of a replica's application; called before it makes the server."""
    install()
    renew_haproxy()
    return [Middleware(Shortcut)]


class Shortcut:
    """Answers what is the endpoint's; gives the rest to Serve. Used by one event loop."""

    def __init__(self, app: Any) -> None:
        self._serve = app
        try:
            self._behind: _Behind | None = _Behind(app)
        except AttributeError as error:
            logger.warning("Requests go Serve's own way, which is slower: %s", error)
            self._behind = None

    def behind(self) -> tuple[SharedApp, str] | None:
        """Returns the application and its prefix, where the server may ask it without this middleware.

        What is answered in one step of the event loop is over before Serve could count that it goes on.
        """
        app = None if self._behind is None else self._behind.app
        return None if self._behind is None or app is None else (app, self._behind.prefix)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection."""
        behind = self._behind
        app = None if behind is None or scope["type"] != "http" else behind.app
        if behind is None or app is None or not behind.enter(scope):
            await self._serve(scope, receive, send)
            return
        try:
            await app(scope, receive, send)
        finally:
            behind.leave()


class _Behind:
    """What is used of Serve's replica.

    Raises:
        AttributeError: it is not as Ray 2.60 has it.
    """

    def __init__(self, app: Any) -> None:
        from ray.serve._private.common import RequestMetadata, RequestProtocol

        self._replica = app._app.__self__  # of the middleware that gives ids, and the method behind it
        self._metrics = self._replica._metrics_manager
        self._one = RequestMetadata(
            request_id="", internal_request_id="", is_direct_ingress=True, _request_protocol=RequestProtocol.HTTP
        )
        self._change = self._metrics.inc_num_ongoing_requests, self._metrics.dec_num_ongoing_requests
        _ = self._replica._user_callable_asgi_app, self._replica._route_prefix, self._replica._user_callable_wrapper

    @property
    def app(self) -> SharedApp | None:
        """The application, where it runs in this event loop."""
        app = self._replica._user_callable_asgi_app
        loop = self._replica._user_callable_wrapper.event_loop
        return app if isinstance(app, SharedApp) and loop is asyncio.get_running_loop() else None

    @property
    def prefix(self) -> str:
        """What all paths of the application begin with; "/" or "" for nothing."""
        return self._replica._route_prefix or ""

    def enter(self, scope: Scope) -> bool:
        """Counts a request and gives it its prefix as Serve would; returns False for one that is not the endpoint's."""
        root, prefix = scope.get("root_path", ""), self.prefix
        path = scope["path"][len(root) :]
        if path.startswith(SERVES_OWN) or not path.startswith(prefix):
            return False
        if prefix != "/":
            scope["root_path"] = root + prefix
        self._change[0](self._one)
        return True

    def leave(self) -> None:
        """Counts that a request is over."""
        self._change[1](self._one)

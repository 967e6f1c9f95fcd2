"""The way from a replica's HTTP server into the application: who is answered there, and what is counted."""

import asyncio
import logging
from typing import Any

import pytest

from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.served import ModelSlot, Served
from deploy.answering.shared_app import SharedApp
from deploy.bundle import Bundle
from deploy.ingress.shortcut import ENVIRONMENT, SERVES_OWN, Shortcut, middlewares


class Replica:
    """What is used of Serve's replica; `test_serves_replica_is_as_expected` holds it against the real one."""

    def __init__(self, app: Any, prefix: str = "/") -> None:
        self._metrics_manager = self
        self._user_callable_wrapper = self
        self._user_callable_asgi_app = app
        self._route_prefix = prefix
        self.ongoing = 0
        self.most = 0
        self.by_serve: list[str] = []

    @property
    def event_loop(self) -> Any:
        return asyncio.get_running_loop()

    def inc_num_ongoing_requests(self, metadata: Any) -> None:
        assert metadata.is_direct_ingress
        assert metadata.is_http_request
        self.ongoing += 1
        self.most = max(self.most, self.ongoing)

    def dec_num_ongoing_requests(self, metadata: Any) -> None:
        self.ongoing -= 1

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        self.by_serve.append(scope["path"])


class Ids:
    """As Serve's middleware that gives requests ids: it holds what is behind it."""

    def __init__(self, replica: Replica) -> None:
        self._app = replica.serve

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


def ask(replica: Replica, path: str, *, kind: str = "http", root: str = "") -> int | None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"[[1, 2, 3]]"}

    async def send(message: Any) -> None:
        sent.append(message)

    async def go() -> None:
        scope = {
            "type": kind,
            "method": "POST" if path.endswith("predict") else "GET",
            "path": root + path,
            "root_path": root,
            "headers": [(b"authorization", b"Bearer secret")],
        }
        await Shortcut(Ids(replica))(scope, receive, send)

    asyncio.run(go())
    return sent[0]["status"] if sent else None


@pytest.fixture
def app(bundle: Bundle) -> SharedApp:
    slot = ModelSlot()
    slot.put(Served(bundle, 3, 3))
    return SharedApp(EndpointApp(AppSettings("digits", "secret"), slot))


@pytest.mark.parametrize(("prefix", "path"), [("/", "/predict"), ("/digits", "/digits/predict")])
@pytest.mark.parametrize("root", ["", "/behind"])
def test_the_application_answers_below_its_prefix_and_is_counted(app, prefix, path, root):
    replica = Replica(app, prefix)
    assert ask(replica, path, root=root) == 200
    assert (replica.by_serve, replica.ongoing, replica.most) == ([], 0, 1)


@pytest.mark.parametrize("path", [SERVES_OWN + "healthz", SERVES_OWN + "routes"])
def test_what_is_serve_s_own_goes_to_serve(app, path):
    replica = Replica(app)
    assert ask(replica, path) is None
    assert (replica.by_serve, replica.most) == ([path], 0)


def test_what_is_under_no_prefix_of_ours_goes_to_serve(app):
    replica = Replica(app, "/digits")
    ask(replica, "/other/predict")
    assert replica.by_serve == ["/other/predict"]


def test_another_application_or_another_kind_of_connection_goes_to_serve(app):
    replica = Replica(object())
    ask(replica, "/predict")
    ask(Replica(app), "/predict", kind="websocket")
    assert replica.by_serve == ["/predict"]


def test_an_application_of_another_event_loop_is_left_to_serve(app, monkeypatch):
    monkeypatch.setattr(Replica, "event_loop", object())
    replica = Replica(app)
    ask(replica, "/predict")
    assert replica.by_serve == ["/predict"]


def test_a_replica_that_is_not_as_expected_is_served_the_long_way(caplog):
    seen: list[str] = []

    class Other:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["path"])

    async def go() -> None:
        await Shortcut(Other())({"type": "http", "path": "/predict"}, None, None)  # type: ignore[arg-type]

    with caplog.at_level(logging.WARNING):
        asyncio.run(go())
    assert seen == ["/predict"]
    assert "Serve's own way" in caplog.text


def test_the_count_is_right_when_the_application_fails(app, monkeypatch):
    async def fail(*_: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(EndpointApp, "__call__", fail)
    replica = Replica(app)
    with pytest.raises(RuntimeError, match="broken"):
        ask(replica, "/predict")
    assert replica.ongoing == 0


def test_serves_replica_is_as_expected():
    """What the shortcut uses of Ray, by its names: a version of Ray that has others goes the long way, unnoticed."""
    import inspect

    from ray.serve._private import constants, http_util, replica

    made = "".join(inspect.getsource(one) for one in replica.Replica.__mro__[:-1])
    for name in ("_metrics_manager", "_user_callable_asgi_app", "_user_callable_wrapper", "_route_prefix"):
        assert f"self.{name}" in made
    manager = replica.ReplicaMetricsManager
    assert callable(manager.inc_num_ongoing_requests)
    assert callable(manager.dec_num_ongoing_requests)
    assert isinstance(replica.UserCallableWrapper.event_loop, property)
    source = inspect.getsource(http_util._apply_middlewares)
    assert "[Middleware(RequestIdMiddleware)] + middlewares" in source  # ours is the outermost
    assert "self._app = app" in inspect.getsource(http_util.RequestIdMiddleware)
    assert all(name in inspect.getsource(constants) for name in ENVIRONMENT)
    assert [one.cls for one in middlewares()] == [Shortcut]

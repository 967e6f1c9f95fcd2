"""One application in front of the endpoints that share a replica: whose paths a request is for.

The endpoint that has the replica is reached at `/`, each resident at `/<its name>`, where all paths are as they are for
an endpoint of its own. `/v2/models/<its name>` leads to it too, as the Open Inference Protocol has it for a server with
several models. Each has its own tokens, and only those open it.
"""

from collections.abc import Mapping
from urllib.parse import unquote

from deploy.answering.app import EndpointApp
from deploy.http.asgi import Receive, Scope, Send

MODELS = "/v2/models/"


class SharedApp:
    """Gives each request to one of the applications. Used by one event loop; any thread may change who lives here.

    Args:
        own: the application of the endpoint that has the replica.
    """

    def __init__(self, own: EndpointApp) -> None:
        self.own = own
        self._residents: Mapping[str, EndpointApp] = {}
        self.plain_paths = own.plain_paths

    def put(self, residents: Mapping[str, EndpointApp]) -> None:
        """Has these others live here from the next request on."""
        paths = dict(self.own.plain_paths)
        for name, app in residents.items():
            paths |= {f"/{name}".encode() + path: plain for path, plain in app.plain_paths.items()}
            paths |= {path: plain for path, plain in app.plain_paths.items() if path.startswith(MODELS.encode())}
        self._residents, self.plain_paths = dict(residents), paths

    def named(self, model: str) -> EndpointApp:
        """Returns the application that has a model of that name; the replica's own where none does, which says so."""
        return self._residents.get(model, self.own)

    @property
    def apps(self) -> Mapping[str, EndpointApp]:
        """All applications by the names of their endpoints, the replica's own first."""
        return {self.own.settings.model: self.own, **self._residents}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one ASGI connection."""
        residents = self._residents
        if not residents or scope["type"] != "http":
            return await self.own(scope, receive, send)
        root = scope.get("root_path", "")
        path: str = scope["path"].removeprefix(root)
        if path.startswith(MODELS):
            return await self.named(unquote(path.split("/")[3]))(scope, receive, send)
        first = path.split("/")[1] if path.startswith("/") else ""
        if first not in residents:
            return await self.own(scope, receive, send)
        return await residents[first]({**scope, "root_path": f"{root}/{first}"}, receive, send)

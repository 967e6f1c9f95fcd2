"""The endpoint from outside its cluster: what an admin decides, over HTTP with a token. Loads no Ray."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from deploy.access.tls import trust
from deploy.client import RequestRefused
from orchestrator.domain.errors import EndpointError

DECISION_SECONDS = 60.0  # a replica may have to load a bundle from an object store
CONNECT_SECONDS = 5.0


class RemoteEndpoint:
    """Asks `/admin` of one endpoint. A decision that got no answer is not sent again: it may have been made.

    Args:
        name: of the endpoint; another one at that address refuses.
        url: of the endpoint, such as http://HOST:8000.
        token: with the scope `admin`, or for `metrics` with that one.
        verify: whom an https URL is believed: True for the system's authorities, a path for those in a PEM file.

    Raises:
        EndpointError: the address is none, or the file cannot be read.
    """

    def __init__(self, name: str, url: str, token: str, *, verify: bool | Path = True) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EndpointError(f"{url!r} is no address of an endpoint; give one such as http://HOST:8000")
        self.name = name
        self.url = url.rstrip("/")
        self._http = httpx.Client(
            headers={"authorization": f"Bearer {token}"},
            timeout=httpx.Timeout(DECISION_SECONDS, connect=CONNECT_SECONDS),
            verify=trust(verify) if isinstance(verify, Path) else verify,
        )

    def promote_version(self, version: int, *, why: str, canary: float | None = None) -> dict[str, Any]:
        """Makes a version answer all requests, or `canary` percent of them; returns what `EndpointActor.promote` does.

        Raises:
            RequestRefused: it cannot be done as asked; it has the status and the reason.
            EndpointError: nobody answers there.
        """
        return self._decide("promote", {"version": version, "why": why, "canary": canary})

    def rollback(self, version: int | None, *, why: str) -> dict[str, Any]:
        """Withdraws the challenger, or makes an earlier version answer again; raises as `promote_version`."""
        return self._decide("rollback", {"version": version, "why": why})

    def freeze(self, frozen: bool, *, why: str) -> bool:
        """Lets nothing change by itself, or again; returns whether that is new. Raises as `promote_version`."""
        return bool(self._decide("freeze" if frozen else "unfreeze", {"why": why})["changed"])

    def status(self) -> dict[str, Any]:
        """Returns what `EndpointActor.status` does; raises as `promote_version`."""
        answer: dict[str, Any] = orjson.loads(self._send("GET", "/admin/status").content)
        return answer

    def metrics(self) -> str:
        """Returns the numbers of all replicas, as Prometheus reads them; raises as `promote_version`."""
        return self._send("GET", "/metrics").text

    def history(self) -> dict[str, Any]:
        """Returns the journal's `events`, and `labels`: by version how many judged it and how many proved it wrong.

        Raises as `promote_version`.
        """
        answer: dict[str, Any] = orjson.loads(self._send("GET", "/admin/history").content)
        if answer.get("endpoint") != self.name:
            raise EndpointError(f"At {self.url} is the endpoint '{answer.get('endpoint')}', not '{self.name}'.")
        return answer

    def _decide(self, decision: str, said: Mapping[str, Any]) -> dict[str, Any]:
        body = {key: value for key, value in said.items() if value is not None} | {"endpoint": self.name}
        answer: dict[str, Any] = orjson.loads(self._send("POST", f"/admin/{decision}", orjson.dumps(body)).content)
        return answer

    def _send(self, method: str, path: str, body: bytes | None = None) -> httpx.Response:
        try:
            response = self._http.request(method, self.url + path, content=body)
        except httpx.TransportError as error:
            raise EndpointError(
                f"The endpoint at {self.url} does not answer ({type(error).__name__}: {error}). Where that was a "
                f"decision it may have been made: look at `orchestrator history {self.name} --address {self.url}`."
            ) from error
        if response.status_code != 200:
            raise RequestRefused(response.status_code, _reason(response))
        return response


def _reason(response: httpx.Response) -> str:
    try:
        given = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return response.text[:200]
    return str(given.get("error", given)) if isinstance(given, dict) else str(given)

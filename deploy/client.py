"""Asks an endpoint from Python, over one kept connection."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx
import orjson

from orchestrator.domain.errors import EndpointError

Row = Mapping[str, Any] | Sequence[Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What the endpoint said, and which version and trial said it."""

    predictions: tuple[Any, ...]
    probabilities: tuple[tuple[float, ...], ...]
    version: str
    study: str
    trial: int
    status: int


class Client:
    """Sends rows to an endpoint and counts how it went. For one thread; each thread takes a client of its own.

    A connection that breaks is tried again once: a prediction changes nothing, so asking twice is safe.
    `requests` counts calls, `failed` those that ended in an error, `retried` second attempts.

    Example:
        with Client(address.url, address.token) as client:
            client.predict([row]).predictions
    """

    def __init__(self, url: str, token: str, *, timeout_seconds: float = 10.0) -> None:
        self.url = url.rstrip("/")
        self.requests = 0
        self.failed = 0
        self.retried = 0
        headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
        self._http = httpx.Client(headers=headers, timeout=timeout_seconds)

    def predict(self, rows: Sequence[Row]) -> Answer:
        """Returns the answers for the rows: records of columns, or lists of cells in their order.

        Raises:
            EndpointError: when the endpoint cannot be reached, or refuses; the message has its reason.
        """
        self.requests += 1
        body = orjson.dumps({"rows": rows}, option=orjson.OPT_SERIALIZE_NUMPY, default=list)
        try:
            return _answer(self._send("POST", "/predict", body))
        except EndpointError:
            self.failed += 1
            raise

    def is_ready(self) -> bool:
        """Returns whether a model answers; False when the endpoint cannot be reached."""
        try:
            return self._send("GET", "/v2/health/ready", b"").status_code == 200
        except EndpointError:
            return False

    def close(self) -> None:
        """Closes the connection."""
        self._http.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, method: str, path: str, body: bytes) -> httpx.Response:
        try:
            return self._http.request(method, self.url + path, content=body)
        except (httpx.NetworkError, httpx.RemoteProtocolError):  # a slow answer is none of these
            self.retried += 1
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        try:
            return self._http.request(method, self.url + path, content=body)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: httpx.TransportError) -> EndpointError:
        return EndpointError(
            f"The endpoint {self.url} cannot be reached ({type(error).__name__}: {error}). "
            "Is it running? `orchestrator status` says so, `orchestrator serve NAME` starts it."
        )


def _answer(response: httpx.Response) -> Answer:
    try:
        given = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        given = {"error": response.text[:200]}
    if response.status_code != 200:
        reason = given.get("error", given) if isinstance(given, dict) else given
        raise EndpointError(f"The endpoint refused with status {response.status_code}: {reason}")
    return Answer(
        predictions=tuple(given["predictions"]),
        probabilities=tuple(tuple(row) for row in given.get("probabilities", ())),
        version=given["version"],
        study=given["study"],
        trial=given["trial"],
        status=response.status_code,
    )

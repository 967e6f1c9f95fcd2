"""Asks an endpoint from Python, over one kept connection.

with Client("http://127.0.0.1:8000", token) as client:
    client.predict([{"width": 1.5, "height": 2.0}]).predictions
"""

import random
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import orjson
from numpy.typing import NDArray

from deploy.access.tls import trust
from deploy.formats.sent_rows import Payload, SentRows
from deploy.http.media import JSON
from deploy.waiting import Attempts, asked_pause
from orchestrator.domain.errors import EndpointError

Row = Mapping[str, Any] | Sequence[Any]
Rows = Sequence[Row] | NDArray[Any] | Any
"""Records of columns, lists of cells in their order, an array (n, f), or a table of pyarrow, pandas or polars."""

BATCH_ROWS = 1000  # of a call; an endpoint takes 4096 and 8 MiB
CONNECT_SECONDS = 5.0
BUSY = (429, 503)  # the request was not begun
TOO_LARGE = 413


class RequestRefused(EndpointError):
    """The endpoint answered, with a status that is no success and a reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"The endpoint refused with status {status}: {reason}")
        self.status = status
        self.reason = reason

    def __reduce__(self) -> tuple[type["RequestRefused"], tuple[int, str]]:
        return RequestRefused, (self.status, self.reason)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the endpoint said, and which version and trial said it.

    `probabilities` are (n, classes), in the order of the model's labels, and empty for a regression. A model that
    changed between the calls for a large table answered some rows each: `versions` names all, in order, and the other
    fields are of the last. `ids` are those of each call's answer, for `Client.feedback`.
    """

    predictions: tuple[Any, ...]
    probabilities: tuple[tuple[float, ...], ...]
    version: str
    study: str
    trial: int
    status: int
    versions: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()

    @classmethod
    def joined(cls, answers: Sequence["Answer"]) -> "Answer":
        """Returns the answer to several calls, one of them at least."""
        last = answers[-1]
        return cls(
            predictions=tuple(one for answer in answers for one in answer.predictions),
            probabilities=tuple(one for answer in answers for one in answer.probabilities),
            version=last.version,
            study=last.study,
            trial=last.trial,
            status=last.status,
            versions=tuple(dict.fromkeys(answer.version for answer in answers)),
            ids=tuple(one for answer in answers for one in answer.ids),
        )


class Client:
    """Sends rows to an endpoint and counts how it went. For one thread; each thread takes a client of its own.

    A connection that breaks, a 429 or 503, and a proxy's word that the replica died are tried again, with growing
    pauses or after what `Retry-After` says: a prediction changes nothing, so asking twice is safe. An answer that does
    not come within the time is not asked for again, nor is any other refusal. `requests` counts calls of `predict`,
    `failed` those that ended in an error, `retried` further attempts.

    Args:
        url: of the endpoint.
        token: its bearer token.
        timeout_seconds: how long one attempt may wait for the endpoint, 5 s of them at most for the connection.
        attempts: how often a request is sent at most; 1 for never again.
        batch_rows: how many rows go in one request; it is halved where the endpoint finds them too large.
        verify: whom an https URL is believed: True for the system's authorities, a path for those in a PEM file, a
            context of ssl for anything else; False for everybody, which protects from nothing.
        pause: waits between attempts.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout_seconds: float = 10.0,
        attempts: int = 4,
        batch_rows: int = BATCH_ROWS,
        verify: bool | str | Path | ssl.SSLContext = True,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        if attempts < 1 or batch_rows < 1:
            raise EndpointError(f"A client needs 1 attempt and 1 row or more; given {attempts} and {batch_rows}.")
        self.url = url.rstrip("/")
        self.requests = 0
        self.failed = 0
        self.retried = 0
        self._attempts = attempts
        self._batch_rows = batch_rows
        self._pause = pause
        self._random = random.Random()
        times = httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, CONNECT_SECONDS))
        trusted = trust(verify) if isinstance(verify, str | Path) else verify
        self._http = httpx.Client(headers={"authorization": f"Bearer {token}"}, timeout=times, verify=trusted)

    def predict(self, rows: Rows, *, key: str | None = None) -> Answer:
        """Returns the answers for the rows, in their order; a large table is sent in several requests.

        Args:
            rows: records of columns, or lists of cells in their order; an array (n, features); a table of pyarrow,
                pandas or polars; or `CsvRows`. What is missing is None, null or, in tables and arrays, NaN.
            key: whatever the same user sends each time, so that one model answers it while another one is tried.

        Raises:
            RequestRefused: when the endpoint refuses; it has the status and the reason.
            EndpointError: when the endpoint cannot be reached, or the rows cannot be sent.
        """
        self.requests += 1
        try:
            return self._predict(SentRows.of(rows), {} if key is None else {"x-routing-key": key})
        except EndpointError:
            self.failed += 1
            raise

    def feedback(self, identity: str, label: Any) -> None:
        """Tells the endpoint the true label of an answer, by its id; of several rows a list of labels, in their order.

        Sent twice it counts once, so that it is tried again as `predict` is.

        Raises:
            RequestRefused: the id is of no answer, or the labels do not fit its rows.
            EndpointError: when the endpoint cannot be reached.
        """
        body = orjson.dumps({"id": identity, "label": label}, option=orjson.OPT_SERIALIZE_NUMPY)
        response = self._send("/feedback", Payload(body, JSON), {})
        if response.status_code != 202:
            raise _refusal(response)

    def is_ready(self) -> bool:
        """Returns whether a model answers; False when the endpoint cannot be reached. Asked once."""
        try:
            return self._http.get(f"{self.url}/v2/health/ready").status_code == 200
        except httpx.TransportError:
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

    def _predict(self, rows: SentRows, headers: Mapping[str, str]) -> Answer:
        answers: list[Answer] = []
        start, size = 0, self._batch_rows
        while start < len(rows) or not answers:  # an empty table is sent too: the endpoint says what is wrong
            batch = rows.part(start, start + size)
            response = self._send("/predict", batch.payload(), headers)
            if response.status_code == TOO_LARGE and len(batch) > 1:
                size = max(1, len(batch) // 2)
                continue
            answers.append(_answer(response))
            start += size
        return answers[0] if len(answers) == 1 else Answer.joined(answers)

    def _send(self, path: str, payload: Payload, more: Mapping[str, str]) -> httpx.Response:
        tries = Attempts(self._attempts, self._random)
        headers = {"content-type": payload.media, "accept": JSON, **more}
        while True:
            try:
                response = self._http.post(self.url + path, content=payload.body, headers=headers)
            except (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout) as error:
                pause = tries.next_pause()
                if pause is None:
                    raise self._unreachable(error) from error
            except httpx.TransportError as error:  # a slow answer: asked again it would take as long
                raise self._unreachable(error) from error
            else:
                is_lost = response.status_code in BUSY or _is_of_a_proxy(response)
                pause = tries.next_pause(asked_pause(response.headers.get("retry-after"))) if is_lost else None
                if pause is None:
                    return response
            self.retried += 1
            self._pause(pause)

    def _unreachable(self, error: httpx.TransportError) -> EndpointError:
        return EndpointError(
            f"The endpoint {self.url} cannot be reached ({type(error).__name__}: {error}). "
            "Is it running? `orchestrator status` says so, `orchestrator serve NAME` starts it."
        )


def _is_of_a_proxy(response: httpx.Response) -> bool:
    """Returns whether a proxy says that the replica it had asked is gone; an endpoint's own faults are JSON."""
    is_json = response.headers.get("content-type", "").startswith(JSON)
    return response.status_code in (500, 502) and not is_json


def _refusal(response: httpx.Response) -> RequestRefused:
    try:
        given = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        given = {"error": response.text[:200]}
    reason = given.get("error", given) if isinstance(given, dict) else given
    return RequestRefused(response.status_code, str(reason))


def _answer(response: httpx.Response) -> Answer:
    if response.status_code != 200:
        raise _refusal(response)
    given = orjson.loads(response.content)
    return Answer(
        predictions=tuple(given["predictions"]),
        probabilities=tuple(tuple(row) for row in given.get("probabilities", ())),
        version=given["version"],
        study=given["study"],
        trial=given["trial"],
        status=response.status_code,
        versions=(given["version"],),
        ids=(given["id"],) if "id" in given else (),
    )

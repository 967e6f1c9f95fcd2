"""A client that asks the endpoint all the time while a study tunes, and counts how that goes."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from pathlib import Path

from deploy import Client
from deploy.access.tls import pinned
from deploy.access.tokens import read_token
from orchestrator.cli.view import TrafficCount
from orchestrator.domain.errors import EndpointError

REQUESTS_PER_SECOND = 30.0  # more would take the cores from the trials on a small machine
ERRORS_KEPT = 3
Rows = Sequence[Sequence[float]]


class Traffic:
    """Sends one row after another, paced, in a thread of its own, from `start` to `stop`.

    A request has failed when it got no 2xx after the client tried one broken connection again. `count` may be read by
    any thread; it is swapped as a whole.

    Args:
        rows: gives the rows to ask for; called in the thread, because loading data may take seconds.
        per_second: how many requests.
    """

    def __init__(self, rows: Callable[[], Rows], *, per_second: float = REQUESTS_PER_SECOND) -> None:
        self._rows = rows
        self._pause = 1.0 / per_second
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._versions: Counter[str] = Counter()
        self._errors: list[str] = []
        self.count = TrafficCount()

    @property
    def has_started(self) -> bool:
        """Whether `start` was called."""
        return self._thread is not None

    def start(self, url: str, token_file: Path, certificate: str | None = None) -> None:
        """Begins to ask the endpoint; `certificate` is the file with its own, where it speaks TLS."""
        args = url, token_file, certificate
        self._thread = threading.Thread(target=self._ask_on, args=args, name="traffic", daemon=True)
        self._thread.start()

    def stop(self) -> TrafficCount:
        """Ends after the request at hand, and returns the whole count."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        return self.count

    def _ask_on(self, url: str, token_file: Path, certificate: str | None) -> None:
        rows: Iterator[Sequence[float]] = cycle(self._rows())
        verify = True if certificate is None else pinned(certificate)
        with Client(url, read_token(token_file), verify=verify) as client:
            for row in rows:
                began = time.monotonic()
                self._ask(client, row)
                if self._stopping.wait(max(0.0, self._pause - (time.monotonic() - began))):
                    return

    def _ask(self, client: Client, row: Sequence[float]) -> None:
        try:
            self._versions[client.predict([row]).version] += 1
        except EndpointError as error:
            self._errors.append(str(error))
            del self._errors[ERRORS_KEPT:]
        self.count = TrafficCount(
            client.requests, client.failed, client.retried, dict(self._versions), tuple(self._errors)
        )

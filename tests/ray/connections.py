"""A load that never pauses: what makes an endpoint grow."""

import threading
from typing import Any

from deploy import Client
from orchestrator.domain.errors import EndpointError

CONNECTIONS = 8


class Connections:
    """Connections that ask one after the other without a pause, and what failed of it."""

    def __init__(self, url: str, token: str, rows: list[Any]) -> None:
        self._url, self._token, self._rows = url, token, rows
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._ask_on, daemon=True) for _ in range(CONNECTIONS)]
        self.answered = 0
        self.errors: list[str] = []

    def __enter__(self) -> "Connections":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _ask_on(self) -> None:
        with Client(self._url, self._token, timeout_seconds=60.0) as client:
            while not self._stopping.is_set():
                try:
                    client.predict(self._rows)
                    self.answered += 1
                except EndpointError as error:
                    self.errors.append(str(error))

"""Loads that never pause: what makes an endpoint grow, and what notices a request that is lost."""

import threading
from typing import Any

from under_load import wait_until

from deploy import Client, EndpointAddress
from orchestrator.domain.errors import EndpointError

CONNECTIONS = 8


class Asking:
    """Threads that ask until a `with` block ends; `_ask` is what each of them does until `over` is set."""

    def __init__(self, threads: int) -> None:
        self.over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Any:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        raise NotImplementedError


class Connections(Asking):
    """Connections that ask one after the other without a pause, and what failed of it."""

    def __init__(self, url: str, token: str, rows: list[Any]) -> None:
        super().__init__(CONNECTIONS)
        self._url, self._token, self._rows = url, token, rows
        self.answered = 0
        self.errors: list[str] = []

    def _ask(self) -> None:
        with Client(self._url, self._token, timeout_seconds=60.0) as client:
            while not self.over.is_set():
                try:
                    client.predict(self._rows)
                    self.answered += 1
                except EndpointError as error:
                    self.errors.append(str(error))


class Load(Asking):
    """Threads that ask all the time and keep every answer; each answer has to be its version's own."""

    def __init__(self, address: EndpointAddress, row: Any, threads: int = 3) -> None:
        super().__init__(threads)
        self._address, self._row = address, row
        self.answers: list[tuple[int, int]] = []  # (predicted class, trial)
        self.errors: list[str] = []

    def __enter__(self) -> "Load":
        super().__enter__()
        wait_until(lambda: len(self.answers) > 10)
        return self

    def _ask(self) -> None:
        with Client(self._address.url, self._address.token, attempts=1) as client:  # nothing is made good
            while not self.over.is_set():
                try:
                    answer = client.predict([self._row])
                    self.answers.append((answer.predictions[0], answer.trial))
                except EndpointError as error:
                    self.errors.append(str(error))

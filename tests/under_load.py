"""What tests of an endpoint under load share: bundles with one label each, clients that never ask twice, and the law
that no version answers that should not.
"""

import random
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from deploy import EndpointAddress
from deploy.bundle import Kind, Lineage, Profile, Schema, constant_model, write_bundle

LABELS = ("ant", "bee", "cat", "dog")
BROKEN_SECONDS = 0.1  # before a client whose connection broke makes another one
SCHEMA = Schema(columns=("width", "height"), kind=Kind.CLASSIFICATION, labels=LABELS)


def wait_until(holds: Callable[[], Any], seconds: float = 120.0, what: str = "the condition") -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come true"
        time.sleep(0.05)


class Shop:
    """Makes bundles, none like the other: each is a new version to an endpoint."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made = 0

    def make(
        self, label: str, model: bytes | None = None, labels: tuple[str, ...] = LABELS, profile: Profile | None = None
    ) -> str:
        """Returns the place of a bundle that always predicts the label, or that runs the model."""
        self._made += 1
        scores = [float(label == other) for other in labels]
        schema = Schema(columns=SCHEMA.columns, kind=Kind.CLASSIFICATION, labels=labels)
        made = write_bundle(
            self._directory / str(self._made),
            onnx_model=model or constant_model(2, scores),
            schema=schema,
            lineage=Lineage("animals", self._made, 9),
            sample_rows=np.ones((2, 2), dtype=np.float32),
            profile=profile,
        )
        return str(made)


class Asker:
    """One client, which never asks twice."""

    def __init__(self, address: EndpointAddress) -> None:
        self._http = httpx.Client(
            base_url=address.url, headers={"authorization": f"Bearer {address.token}"}, timeout=30.0
        )

    def ask(self, *, width: float = 1.0, key: str | None = None, rows: int = 1) -> dict[str, Any]:
        """Returns the answer to so many rows alike, with its status."""
        body = {"rows": [{"width": width, "height": 2.0}] * rows} | ({} if key is None else {"key": key})
        answer = self._http.post("/predict", json=body)
        try:
            said = answer.json()
        except ValueError:  # of a proxy
            said = {"error": answer.text[:200]}
        return said | {"status": answer.status_code}

    def label(self, identity: str, label: str) -> int:
        """Returns the status of a posted label."""
        return self._http.post("/feedback", json={"id": identity, "label": label}).status_code

    def close(self) -> None:
        """Closes the connection."""
        self._http.close()


class Load:
    """Clients that ask all the time with rows of all kinds, and keep every answer and every error.

    Of its `threads` as many ask as `busy` says, with `rows` in each request. An answer is kept with when its request
    began and ended.
    """

    def __init__(self, address: EndpointAddress, threads: int = 3, pause: float = 0.0) -> None:
        self._address = address
        self._over = threading.Event()
        self._pause = pause
        self._threads = [threading.Thread(target=self._ask, args=(seed,)) for seed in range(threads)]
        self.busy = threads
        self.rows = 1
        self.answers: list[dict[str, Any]] = []
        self.errors: list[Any] = []

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.answers) > 10, what="a first answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, seed: int) -> None:
        asker, chance = Asker(self._address), random.Random(seed)
        while not self._over.is_set():
            if seed >= self.busy:
                time.sleep(0.05)
                continue
            begun = time.monotonic()
            try:
                answer = asker.ask(width=chance.random(), rows=self.rows)
            except httpx.TransportError as error:
                self.errors.append({"error": repr(error), "begun": begun, "ended": time.monotonic()})
                time.sleep(BROKEN_SECONDS)
                continue
            answer |= {"begun": begun, "ended": time.monotonic()}
            if "predictions" in answer:
                answer["predictions"] = answer["predictions"][:2]
                answer.pop("probabilities", None)  # thousands of rows would be kept
            (self.answers if answer["status"] == 200 else self.errors).append(answer)
            if self._pause:
                time.sleep(self._pause)
        asker.close()


class Decided:
    """Which versions might answer at any moment, from one decision after the other.

    While a decision is made those before it may, and those after it; when it was made only those after it.
    """

    def __init__(self) -> None:
        self._asked: list[float] = []
        self._done: list[float] = []
        self._may: list[frozenset[str]] = []

    def __len__(self) -> int:
        return len(self._may)

    def add(self, asked: float, done: float, status: Mapping[str, Any]) -> None:
        """Takes a decision, made between two moments of the monotonic clock, and the status that it led to."""
        rollout, may = status["rollout"], {str(status["version"])}
        may |= {str(rollout["version"])} if rollout is not None and rollout["weight"] else set()
        self._asked.append(asked)
        self._done.append(done)
        self._may.append(frozenset(may))

    def strangers(self, answers: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Returns the answers that no version gave which might have; with `may`, those that might."""
        found = []
        for answer in answers:
            first = max(0, bisect_right(self._done, answer["begun"]) - 1)
            last = bisect_right(self._asked, answer["ended"])
            may = frozenset().union(*self._may[first:last])
            if answer["version"] not in may:
                since = answer["begun"] - self._done[first]
                found.append({**answer, "may": sorted(may), "begun_after": since, "decision": first})
        return found

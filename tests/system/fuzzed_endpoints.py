"""The endpoints that are fuzzed, on both protocols, and what has to be so of them afterwards."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
from asked_endpoints import Trained, serving, train_churn, train_digits

from deploy import Client, EndpointAddress, endpoint_handle, stop_serve
from deploy.formats.tensor_rows import input_tensors

SEED = int(os.environ.get("FUZZ_SEED", "5"))
PATIENCE_SECONDS = 20.0  # of one answer; on a quiet machine each takes milliseconds
GROWTH_BYTES = 300 * 1024 * 1024  # of a replica, over all: no claim of a size is believed


@dataclass(frozen=True)
class Target:
    """An endpoint that is fuzzed, and a good request to it of each kind."""

    trained: Trained
    address: EndpointAddress

    @property
    def prefix(self) -> str:
        return self.address.url.partition(str(self.address.port))[2]

    @property
    def infer(self) -> str:
        return f"/v2/models/{self.trained.name}/infer"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.trained.bundle.schema.columns)

    @property
    def rows(self) -> list[list[Any]]:
        return [list(row) for row in self.trained.rows[:3].tolist()]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [dict(zip(self.names, row, strict=True)) for row in self.rows]

    def table(self) -> pa.Table:
        return pa.Table.from_pylist(self.records)

    def tensors(self) -> list[dict[str, Any]]:
        """The rows as tensors, with their cells as JSON."""
        schema = self.trained.bundle.schema
        if not schema.raw:
            return [{**input_tensors(schema)[0], "shape": [3, len(self.names)], "data": self.rows}]
        return [
            {"name": said["name"], "datatype": said["datatype"], "shape": [3], "data": [row[j] for row in self.rows]}
            for j, said in enumerate(input_tensors(schema))
        ]


@contextmanager
def serving_targets(bundles: Path, storage: Path) -> Iterator[dict[str, Target]]:
    """Serves churn, a model of raw rows, and digits, a model of numbers, on one port of each protocol."""
    stop_serve()  # where another test left it, without gRPC
    churn, digits = train_churn(bundles), train_digits(bundles)
    with serving(churn, storage, 18440, 18441) as first, serving(digits, storage, 18440, 18441) as second:
        yield {"churn": Target(churn, first), "digits": Target(digits, second)}
    assert stop_serve()


@contextmanager
def unharmed(target: Target) -> Iterator[Target]:
    """Afterwards the same processes answer a good request, and are no larger for what they were told."""
    before = memory(target)
    yield target
    answers_well(target)
    after = memory(target)
    assert set(after) == set(before), "a replica died"
    assert all(after[pid] - before[pid] < GROWTH_BYTES for pid in before), (before, after)


def memory(target: Target) -> dict[int, int]:
    """The bytes that each of its replicas takes."""
    replicas = endpoint_handle(target.trained.name).status()["replicas"]
    return {replica["pid"]: psutil.Process(replica["pid"]).memory_info().rss for replica in replicas}


def answers_well(target: Target) -> None:
    with Client(target.address.url, target.address.token, attempts=1) as client:
        expected = target.trained.bundle.predict(target.trained.rows[:3]).labels
        assert list(client.predict(target.records).predictions) == list(expected)

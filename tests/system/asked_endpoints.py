"""Real endpoints to be asked from outside: digits, a model of numbers, and churn, one of rows with texts and dates."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy import EndpointAddress, Scale, endpoint_handle, start_endpoint, stop_endpoint
from deploy.bundle import Bundle, Lineage
from trainables.contract import Context
from trainables.data import load, split
from trainables.resolve import resolve
from trainables.table.families import Families

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Trained:
    """A model, its bundle, and the rows that nobody trained on: an array, or a table."""

    name: str
    directory: Path
    bundle: Bundle
    rows: Any
    expected: Any  # (n, classes), of the trained model itself


def train_digits(directory: Path) -> Trained:
    """Trains a small forest on the digits for two steps and exports it."""
    parts = split(load("sklearn:digits"))
    model = resolve("trainables.sklearn.random_forest").target()
    return _trained("digits", directory, model, {}, parts)


def train_churn(directory: Path) -> Trained:
    """Cross-validates the linear family on the customers for a fold, and exports it."""
    parts = split(load(str(ROOT / "examples/churn/churn.csv"), target="churn"))
    return _trained("churn", directory, Families(), {"family": "linear"}, parts)


def _trained(name: str, directory: Path, model: Any, params: dict[str, Any], parts: Any) -> Trained:
    model.build(params, parts, Context(seed=1))
    model.step()
    place = directory / name
    model.export(place, Lineage(name, 7, 1))
    few = parts.test_x[:20]
    return Trained(name, place, Bundle.open(place), few, model.predict(few))


@contextmanager
def serving(trained: Trained, storage: Path, port: int, grpc_port: int | None) -> Iterator[EndpointAddress]:
    """Serves the model under its name, at the ports where they are free."""
    address = start_endpoint(trained.name, storage, port=port, grpc_port=grpc_port, scale=Scale(1, 1, 0.5))
    try:
        endpoint_handle(trained.name).promote(str(trained.directory))
        yield address
    finally:
        stop_endpoint(trained.name)

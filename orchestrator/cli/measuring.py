"""The last measurements: the champion's answers to the untouched test rows, asked over HTTP like any client's."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy import Client, EndpointAddress
from deploy.bundle import Kind
from deploy.copies import open_bundle
from orchestrator.domain.errors import BundleError, OrchestratorError
from trainables.data import Split, TableSplit, baseline
from trainables.metrics import scores

CHUNK_ROWS = 100  # of a request
REFERENCE = "reference"
RECORD_COLUMNS = 20  # a wider row is asked as a list: a record of it would fill the screen
MEASURES = {Kind.CLASSIFICATION: "accuracy", Kind.REGRESSION: "r2"}


@dataclass(frozen=True, slots=True)
class TestScores:
    """What was reached on the test rows; None where it could not be measured, `problem` says why."""

    metric: str
    champion: float | None = None
    default: float | None = None
    baseline: float | None = None
    rows: int = 0
    version: str = ""
    curl: str = ""
    problem: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return asdict(self)


def measure(
    parts: Split | TableSplit,
    address: EndpointAddress | None,
    bundles: Mapping[str, Mapping[str, Any]],
    problem: str = "",
) -> TestScores:
    """Returns the champion's score through the endpoint, and the default configuration's and the trivial one's.

    Args:
        parts: the data.
        address: of the endpoint; None where it did not come up.
        bundles: of the study, by name; the default configuration's has the purpose "reference".
        problem: why there is no endpoint, where there is none.
    """
    metric = MEASURES[parts.kind]
    champion, version = None, ""
    if address is not None:
        try:
            with Client(address.url, address.token, verify=address.verify) as client:
                champion, version = _ask(client, parts)
        except OrchestratorError as error:
            problem = str(error)
    return TestScores(
        metric,
        champion,
        _default(parts, bundles),
        baseline(parts, metric, "test"),
        len(parts.test_y),
        version,
        address.curl(example(parts)) if address is not None else "",
        problem,
    )


def example(parts: Split | TableSplit) -> dict[str, Any] | list[Any]:
    """Returns one real test row, as somebody would type it."""
    return typed(parts.test_x[:1].tolist()[0], parts.feature_names)


def typed(row: Sequence[Any], columns: Sequence[str]) -> dict[str, Any] | list[Any]:
    """Returns a row as somebody would type it: whole numbers without a point, nothing where one is missing."""
    values = [int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in row]
    values = [None if isinstance(cell, float) and math.isnan(cell) else cell for cell in values]
    return values if len(values) > RECORD_COLUMNS else dict(zip(columns, values, strict=True))


def _ask(client: Client, parts: Split | TableSplit) -> tuple[float, str]:
    """Returns the score of the endpoint's answers to all test rows, and the version that gave the last of them."""
    answers: list[Any] = []
    version = ""
    for start in range(0, len(parts.test_x), CHUNK_ROWS):
        answer = client.predict(parts.test_x[start : start + CHUNK_ROWS].tolist())
        answers += answer.predictions
        version = answer.version
    return _score(parts, answers), version


def _default(parts: Split | TableSplit, bundles: Mapping[str, Mapping[str, Any]]) -> float | None:
    uri = next((b["uri"] for b in bundles.values() if b["purpose"] == REFERENCE and b["uri"]), None)
    if uri is None:
        return None
    try:
        bundle = open_bundle(str(uri))
    except BundleError:
        return None
    given = bundle.predict(parts.test_x)
    return _score(parts, given.labels if parts.kind is Kind.CLASSIFICATION else given.scores.tolist())


def _score(parts: Split | TableSplit, answers: Sequence[Any]) -> float:
    if parts.kind is Kind.REGRESSION:
        values: NDArray[np.float64] = np.asarray(answers, dtype=np.float64)
        return float(scores(parts.kind, values, parts.test_y)[MEASURES[parts.kind]])
    truth = (parts.classes[number] for number in parts.test_y)
    right: int = sum(given == true for given, true in zip(answers, truth, strict=True))
    return right / len(answers)

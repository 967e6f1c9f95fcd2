"""What is posted to `/feedback`: the true labels of answers, by their ids."""

import threading
from typing import Any

from deploy.answering.answer_id import MOST_ROWS, parse_answer_id
from deploy.http.asgi import Refusal
from deploy.rollout.evidence import Judgement

MOST_LABELS = 10_000  # that wait in a replica for the endpoint actor; the newest are kept
FORM = 'Send {"id": the id of an answer, "label": the true label}, or a list of those.'


def parse_feedback(given: Any) -> list[Judgement]:
    """Returns what the labels say of their answers.

    An answer of several rows takes a list of labels, in the order of its rows.

    Raises:
        Refusal: 422, naming what is wrong.
    """
    entries = given if isinstance(given, list) else [given]
    if not entries:
        raise Refusal(422, f"There are no labels. {FORM}")
    return [_judgement(entry) for entry in entries]


def _judgement(entry: Any) -> Judgement:
    if not isinstance(entry, dict) or set(entry) != {"id", "label"}:
        raise Refusal(422, f"A label was not given as it has to be. {FORM}")
    found = parse_answer_id(entry["id"]) if isinstance(entry["id"], str) else None
    if found is None:
        raise Refusal(422, f"The id {str(entry['id'])[:80]!r} is of no answer. Send it as the answer's 'id' has it.")
    label = entry["label"]
    rows = len(found.predictions)
    is_one = rows == 1 and not (isinstance(label, list) and not isinstance(found.predictions[0], list))
    labels = [label] if is_one else label
    if not isinstance(labels, list) or any(true is None for true in labels) or not _fit(labels, rows):
        raise Refusal(422, f"The answer has {rows} rows; give as many labels in a list, none of them null.")
    return found.judge(labels)


def _fit(labels: list[Any], rows: int) -> bool:
    """Returns whether there is a label for each row; of a long answer only the first rows are known."""
    return len(labels) == rows or (rows == MOST_ROWS and len(labels) > rows)


class Waiting:
    """Labels that the endpoint actor has to hear of. Filled by requests, emptied by the thread that reports."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._judgements: list[Judgement] = []

    def add(self, judgements: list[Judgement]) -> None:
        """Keeps them; beyond `MOST_LABELS` the oldest go."""
        with self._lock:
            self._judgements = (self._judgements + judgements)[-MOST_LABELS:]

    def take(self) -> list[Judgement]:
        """Returns all and keeps none."""
        with self._lock:
            taken, self._judgements = self._judgements, []
            return taken

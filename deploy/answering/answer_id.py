"""The id of an answer: all that a label which comes later needs, so that nobody has to remember the answer.

It holds the version, the rollout at that time (0: none), a number of its own, and the predictions of the first rows, so
that any replica judges any answer, however late and whatever died meanwhile. A checksum tells a mistyped one.
"""

import base64
import binascii
import itertools
import secrets
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from deploy.bundle import Prediction
from deploy.rollout.evidence import Judgement

MOST_ROWS = 32  # of an answer may be judged; an id stays below a thousand characters
URL_SAFE = bytes.maketrans(b"+/", b"-_")
TOLERANCE = 0.1  # a value within a tenth of the label is right


@dataclass(frozen=True, slots=True)
class AnswerId:
    """An id that was read: `predictions` are labels, or the numbers of a regression (lists where it has several)."""

    text: str
    version: int
    rollout: int
    predictions: tuple[Any, ...]

    def judge(self, labels: list[Any]) -> Judgement:
        """Returns what the true labels of its first rows say, as many as there are predictions or fewer."""
        wrong = sum(differ(said, true) for said, true in zip(self.predictions, labels, strict=False))
        return Judgement(self.text, self.version, self.rollout, min(len(labels), len(self.predictions)), wrong)


class AnswerIds:
    """Makes the ids of one replica's answers; safe to use from several threads."""

    def __init__(self) -> None:
        self._replica = secrets.token_hex(4)
        self._numbers = itertools.count()

    def make(self, version: int, rollout: int, prediction: Prediction) -> str:
        """Returns a new id."""
        said = list(prediction.labels[:MOST_ROWS]) or prediction.scores[:MOST_ROWS].tolist()
        number = f"{self._replica}{next(self._numbers):x}"
        content = orjson.dumps([version, rollout, number, said])
        return _text(content + zlib.crc32(content).to_bytes(4, "big"))


def _text(packed: bytes) -> str:
    """Returns URL-safe base64 without its padding, in one step less than `base64` takes."""
    return binascii.b2a_base64(packed, newline=False).translate(URL_SAFE, b"=").decode()


def parse_answer_id(text: str) -> AnswerId | None:
    """Returns what the id holds; None for a text that is none."""
    try:
        packed = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        content, checksum = packed[:-4], packed[-4:]
        if zlib.crc32(content).to_bytes(4, "big") != checksum:
            return None
        version, rollout, _, said = orjson.loads(content)
        return AnswerId(text, int(version), int(rollout), tuple(said))
    except (binascii.Error, ValueError, TypeError):  # UnicodeEncodeError and JSONDecodeError are ValueErrors
        return None


def first_differs(one: Prediction, other: Prediction) -> bool:
    """Returns whether two models answer a request's first row differently; further rows depend on it too much."""
    if one.labels or other.labels:
        return one.labels[:1] != other.labels[:1]
    return differ(np.asarray(one.scores[0]).tolist(), np.asarray(other.scores[0]).tolist())


def differ(said: Any, true: Any) -> bool:
    """Returns whether a prediction is not the label: another class, or a number more than a tenth away."""
    if isinstance(said, list):
        return not isinstance(true, list) or len(said) != len(true) or any(map(differ, said, true))
    if isinstance(said, float) and isinstance(true, int | float):
        return not abs(said - true) <= TOLERANCE * max(abs(said), abs(true))
    return str(said) != str(true)

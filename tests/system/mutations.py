"""Requests that are nearly right: seeded mutations of valid ones, as bytes, as JSON, and as messages of gRPC.

What is nearly right goes furthest before it is found to be wrong; pure noise is refused by the first parser.
"""

import copy
import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

EXTREMES = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x01\x00\x00\x00")
ODD_CELLS: Sequence[Any] = (
    None, True, -1, 0, 2**31, 2**63, -(2**63) - 1, 2**64, 10**400, 1e39, -1e308, 5e-324, float("nan"), float("inf"),
    "", "NaN", "\x00", "ж" * 50, "\ud800", "x" * 5000, "2026-02-30", [], {}, [[]], {"": None}, [None] * 9,
)  # fmt: skip
ODD_SHAPES: Sequence[Any] = (
    [], [0], [-1], [1, -1], [0, 0], [2**31], [2**62, 4], [2**63], [10**30], [1.0, 2.0], ["1"], [True], [1] * 300,
    [4096, 4096, 4096], None, 7, "1", [[1]],
)  # fmt: skip
ODD_DATATYPES: Sequence[Any] = (
    "FP32", "FP64", "FP16", "BF16", "INT8", "INT64", "UINT8", "UINT64", "BOOL", "BYTES", "bytes", "", "fp32", "OBJECT",
    None, 3, ["FP32"], "F" * 4000, "\x00",
)  # fmt: skip
ODD_SIZES: Sequence[Any] = (0, -1, 1, 3, 7, 2**31, 2**63, 10**30, 1.5, "4", None, True, [4])
ODD_NAMES: Sequence[Any] = ("", "rows", "predictions", "\x00", "ж", None, 3, "n" * 3000, ["rows"], {})
KEYS: Mapping[str, Sequence[Any]] = {
    "shape": ODD_SHAPES,
    "datatype": ODD_DATATYPES,
    "binary_data_size": ODD_SIZES,
    "name": ODD_NAMES,
    "parameters": (
        [], 3, {"binary_data_size": 8}, {"sequence_id": 1}, {"classification": 3}, {"binary_data": True},
        {"binary_data_output": "yes"}, {"shared_memory_region": "x"}, {"": {}}, {"binary_data_output": True},
    ),
}  # fmt: skip
DEEP = 3000


class Mutator:
    """Draws mutations; the same seed draws the same ones."""

    def __init__(self, seed: int | str) -> None:
        self.chance = random.Random(seed)

    def of_bytes(self, given: bytes) -> bytes:
        """Returns the bytes with one to four places flipped, cut, doubled, moved or made extreme."""
        made = bytearray(given)
        for _ in range(self.chance.choice([1, 1, 1, 2, 4])):
            place, size = self.chance.randrange(len(made) + 1), self.chance.choice([1, 2, 4, 8, 64])
            match self.chance.randrange(7):
                case 0 if made:
                    made[min(place, len(made) - 1)] ^= 1 << self.chance.randrange(8)
                case 1:
                    del made[place : place + size]
                case 2:
                    made[place:place] = made[place : place + size]
                case 3:
                    made[place : place + 4] = self.chance.choice(EXTREMES)
                case 4:
                    del made[place:]
                case 5:
                    made[place:place] = self.chance.randbytes(size)
                case _:
                    aligned = place - place % 4  # where a binary format has its numbers
                    made[aligned : aligned + 4] = self.chance.choice(EXTREMES)
        return bytes(made)

    def of_tree(self, given: Any) -> Any:
        """Returns plain data with one to three places replaced, taken away, doubled or wrapped."""
        made = copy.deepcopy(given)
        for _ in range(self.chance.choice([1, 1, 2, 3])):
            places = list(_places(made))
            if not places:
                return self.chance.choice(ODD_CELLS)
            holder, key = self.chance.choice(places)
            match self.chance.randrange(8):
                case 0:
                    del holder[key]
                case 1 if isinstance(holder, list):
                    holder.insert(key, copy.deepcopy(holder[key]))
                case 2:
                    holder[key] = [holder[key]] if self.chance.random() < 0.5 else {str(key): holder[key]}
                case 3 if isinstance(holder, dict):
                    holder[str(self.chance.choice(ODD_NAMES))] = self.chance.choice(ODD_CELLS)
                case _:
                    holder[key] = self.chance.choice(KEYS.get(key, ODD_CELLS) if isinstance(key, str) else ODD_CELLS)
        return made

    def to_json(self, tree: Any) -> bytes:
        """Returns data as JSON, or nearly: with NaN, lone surrogates, keys that come twice, bytes that are no UTF-8."""
        text = json.dumps(tree, ensure_ascii=self.chance.random() < 0.5)
        match self.chance.randrange(12):
            case 0:
                text = text.replace("{", '{"inputs": [], "rows": [], ', 1)  # keys that come twice
            case 1:
                text = text.replace("[", "[" * DEEP, 1)
            case 2:
                text = "[" * DEEP + text + "]" * DEEP
            case 3:
                text = text.replace(": ", ': {"a":' * DEEP, 1) + "}" * DEEP
        body = text.encode("utf-8", "surrogatepass")
        return self.of_bytes(body) if self.chance.random() < 0.2 else body


def _places(tree: Any) -> Sequence[tuple[Any, Any]]:
    """Returns every place in plain data: what holds it, and at which key or index."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    found = [(tree, key) for key in keys]
    for key in keys:
        found += _places(tree[key])
    return found

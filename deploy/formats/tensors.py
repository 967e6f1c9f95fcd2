"""Tensors of the Open Inference Protocol, however they came: as JSON, as bytes behind JSON, or over gRPC.

The cells of a tensor are flat and in row-major order. As bytes they are little-endian numbers, one byte for a truth
value, and for a text (BYTES) its length in four bytes and its UTF-8. The protocol has no word for a missing cell: a
`null` in JSON is ours, NaN stands for it among numbers.
"""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.http.asgi import Refusal

TEXT = "BYTES"
TRUTH = "BOOL"
DTYPES: Mapping[str, np.dtype[Any]] = {
    TRUTH: np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}
NUMBERS = tuple(name for name in DTYPES if name != TRUTH)
DATATYPES = (*DTYPES, TEXT)
LENGTH = struct.Struct("<I")
LARGEST_RANK = 8  # data nested deeper than any tensor of ours is no tensor

Cells = NDArray[Any] | Sequence[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A named tensor; `cells` are flat, and may be fewer or more than `shape` says until `check_count`."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    cells: Cells

    def check_count(self) -> None:
        """Refuses (422) a tensor with more or fewer cells than its shape says."""
        if len(self.cells) != math.prod(self.shape):
            raise Refusal(
                422, f"The tensor '{self.name}' says shape {list(self.shape)} and has {len(self.cells)} cells."
            )


def tensor_head(given: Mapping[str, Any]) -> tuple[str, str, tuple[int, ...]]:
    """Returns the name, datatype and shape of a tensor in JSON.

    Raises:
        Refusal: 422, naming the tensor and what is wrong with it.
    """
    name, datatype, shape = given.get("name"), given.get("datatype"), given.get("shape")
    if not isinstance(name, str) or not name:
        raise Refusal(422, f"A tensor has the name {name!r}; give each a text.")
    if datatype not in DATATYPES:
        raise Refusal(422, f"The tensor '{name}' has datatype {datatype!r}; known are {', '.join(DATATYPES)}.")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise Refusal(422, f"The tensor '{name}' has shape {shape!r}; give a list of whole numbers, such as [1, 4].")
    return name, datatype, tuple(shape)


def cells_of_json(name: str, datatype: str, data: Any, *, nulls: bool) -> Sequence[Any]:
    """Returns the cells of a tensor's `data`, flat or nested as its shape, each of them of the datatype.

    Args:
        name: of the tensor, for errors.
        datatype: of the tensor.
        data: from JSON.
        nulls: whether a cell may be null.

    Raises:
        Refusal: 422, naming the tensor and what is wrong with it.
    """
    if not isinstance(data, list):
        raise Refusal(422, f"The tensor '{name}' needs 'data': a list, flat or nested as its shape.")
    cells = list(_flat(name, data, LARGEST_RANK)) if list in set(map(type, data)) else data
    kinds, needed = _JSON[datatype]
    allowed = kinds | {type(None)} if nulls else kinds
    if not set(map(type, cells)) <= allowed:
        wrong = next(cell for cell in cells if type(cell) not in allowed)
        raise Refusal(422, f"The tensor '{name}' of datatype {datatype} has {_shown(wrong)} where {needed} is needed.")
    if "INT" in datatype:
        check_range(name, datatype, cells)
    return cells


def cells_of_bytes(name: str, datatype: str, content: bytes) -> Cells:
    """Returns the cells that the bytes are.

    Raises:
        Refusal: 422 when they are no whole cells, or no texts in UTF-8.
    """
    if datatype == TEXT:
        return list(_texts(name, content))
    dtype = DTYPES[datatype]
    if len(content) % dtype.itemsize:
        raise Refusal(
            422, f"The tensor '{name}' has {len(content)} bytes; a cell of {datatype} takes {dtype.itemsize} of them."
        )
    if datatype == TRUTH:  # a byte that is neither 0 nor 1 is true, and a numpy bool must not hold it
        return np.frombuffer(content, dtype=np.uint8).astype(np.bool_)
    return np.frombuffer(content, dtype=dtype)


def bytes_of_cells(datatype: str, cells: Cells) -> bytes:
    """Returns the cells as bytes; `cells_of_bytes` reads them."""
    if datatype == TEXT:
        encoded = [str(cell).encode() for cell in cells]
        return b"".join(LENGTH.pack(len(text)) + text for text in encoded)
    return np.ascontiguousarray(cells, dtype=DTYPES[datatype]).tobytes()


def text_of(name: str, content: bytes) -> str:
    """Returns a cell of a BYTES tensor as a text.

    Raises:
        Refusal: 422 when it is not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Refusal(422, f"The tensor '{name}' has a text that is not UTF-8 ({error}).") from error


def check_range(name: str, datatype: str, cells: Sequence[Any]) -> None:
    """Refuses (422) whole numbers that the datatype cannot hold; None is no number."""
    limits = np.iinfo(DTYPES[datatype])
    outside = next((cell for cell in cells if cell is not None and not limits.min <= cell <= limits.max), None)
    if outside is not None:
        raise Refusal(422, f"The tensor '{name}' has {outside}, which is no {datatype}.")


_JSON: Mapping[str, tuple[frozenset[type], str]] = {
    TRUTH: (frozenset({bool}), "true or false"),
    TEXT: (frozenset({str}), "a text"),
    **{name: (frozenset({int, float}), "a number") for name in NUMBERS if name.startswith("FP")},
    **{name: (frozenset({int}), "a whole number") for name in NUMBERS if "INT" in name},
}


def _flat(name: str, data: list[Any], depth: int) -> Iterator[Any]:
    if depth == 0:
        raise Refusal(422, f"The data of the tensor '{name}' is nested more than {LARGEST_RANK} deep.")
    for cell in data:
        if isinstance(cell, list):
            yield from _flat(name, cell, depth - 1)
        else:
            yield cell


def _texts(name: str, content: bytes) -> Iterator[str]:
    place = 0
    while place < len(content):
        start = place + LENGTH.size
        if start > len(content):
            raise Refusal(422, f"The tensor '{name}' ends in the middle of a text's length.")
        place = start + LENGTH.unpack_from(content, start - LENGTH.size)[0]
        if place > len(content):
            raise Refusal(422, f"The tensor '{name}' ends in the middle of a text.")
        yield text_of(name, content[start:place])


def _shown(cell: Any) -> str:
    text = repr(cell)
    return text if len(text) <= 40 else f"{text[:40]}…"

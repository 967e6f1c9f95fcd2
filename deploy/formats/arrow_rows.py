"""Rows as an Arrow IPC stream, as `pyarrow.ipc.new_stream` and polars' `write_ipc_stream` write it.

Whatever a stream claims, no more memory is taken than a small multiple of its bytes: compressed buffers are refused
before they are unpacked, offsets are checked before texts are made of them, and types that may repeat what they hold
are refused but for two: a dictionary's words are made once, and texts as views, which are all that polars has, are
measured first.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deploy.bundle import ColumnKind, Schema, Table
from deploy.formats.arrow_messages import BATCH, message_heads
from deploy.formats.rows import rows_of_columns, too_many_rows
from deploy.http.asgi import Refusal

TEXT_BYTES = 64 * 1024 * 1024


def parse_arrow(body: bytes, schema: Schema, limit: int) -> NDArray[np.float32] | Table:
    """Returns the rows of an Arrow IPC stream; null is a missing cell.

    Raises:
        Refusal: 400 when it is no such stream, 415 when it is compressed, 422 naming the column that does not fit,
            413 for more than `limit` rows.
    """
    try:
        _check_heads(body, limit)
        with pa.ipc.open_stream(body) as reader:
            names = reader.schema.names
            batches = list(reader)
        for batch in batches:
            batch.validate(full=True)
    except (pa.ArrowException, ValueError, OSError, MemoryError) as error:
        raise Refusal(400, f"The body is no Arrow IPC stream: {str(error)[:200]}.") from error
    if len(set(names)) != len(names):
        raise Refusal(422, "Two columns have the same name; give each one of its own.")
    kinds = {column.name: column.kind for column in schema.raw}
    columns: dict[str, list[Any]] = {}
    room = _Room(TEXT_BYTES)
    for j, name in enumerate(names):
        column = _Column(name, kinds.get(name, ColumnKind.NUMBER), room)
        is_known = name in schema.columns  # else it is refused by name, whatever it holds
        columns[name] = [cell for batch in batches for cell in column.cells(batch.column(j))] if is_known else []
    return rows_of_columns(columns, schema, limit)


def _check_heads(body: bytes, limit: int) -> None:
    rows = 0
    for head in message_heads(body):
        if head.is_compressed:
            raise Refusal(415, "The stream's buffers are compressed; write it without compression.")
        rows += head.rows if head.kind == BATCH else 0
        if head.rows < 0 or rows > limit:
            raise too_many_rows(rows, limit)


class _Room:
    """How many bytes of text a request's views may still become: many of them may show the same bytes."""

    def __init__(self, size: int) -> None:
        self._left = size

    def take(self, views: pa.Array) -> None:
        """Refuses (413) views of more than is left. A view is 16 bytes, of which the first four are its length."""
        heads = np.frombuffer(views.buffers()[1], dtype="<i4").reshape(-1, 4)[views.offset : views.offset + len(views)]
        self._left -= int(heads[:, 0][views.is_valid().to_numpy(zero_copy_only=False)].sum(dtype=np.int64))
        if self._left < 0:
            raise Refusal(413, f"The stream's texts are more than {TEXT_BYTES} bytes. Send fewer rows.")


class _Column:
    """Makes plain cells of the arrays of one column; a dictionary's word is made once, however often it is used."""

    def __init__(self, name: str, kind: ColumnKind, room: _Room) -> None:
        self._name = name
        self._kind = kind
        self._room = room
        self._words: dict[tuple[int, int, int], Any] = {}

    def cells(self, array: pa.Array) -> Sequence[Any]:
        """Returns the cells of an array; NaN in a column of numbers is a missing one."""
        if pa.types.is_dictionary(array.type):
            dictionary, codes = array.dictionary, array.indices.to_pylist()
            return [None if code is None else self._word(dictionary, code) for code in codes]
        if not any(is_kind(array.type) for is_kind in _TAKEN[self._kind]):
            raise Refusal(422, f"The column '{self._name}' is of Arrow's type {array.type}; {self._needed} is needed.")
        if pa.types.is_string_view(array.type) and len(array):
            self._room.take(array)
        try:
            return _plain(array)
        except (pa.ArrowException, ValueError, OverflowError) as error:  # a date in the year 300,000
            reason = f"The column '{self._name}' holds what is not {self._needed}: {str(error)[:200]}."
            raise Refusal(422, reason) from error

    @property
    def _needed(self) -> str:
        return _NEEDED[self._kind]

    def _word(self, dictionary: pa.Array, code: int) -> Any:
        content = dictionary.buffers()[-1]
        place = (content.address if content else 0, dictionary.offset, code)  # batches share what they do not replace
        if place not in self._words:
            (self._words[place],) = self.cells(dictionary.slice(code, 1))
        return self._words[place]


def _plain(array: pa.Array) -> Sequence[Any]:
    if pa.types.is_temporal(array.type):
        days = array.cast(pa.date32(), safe=False).to_pylist()
        return [None if day is None else day.isoformat() for day in days]
    cells: list[Any] = array.to_pylist()
    if pa.types.is_floating(array.type) or pa.types.is_decimal(array.type):
        return [None if cell is None or math.isnan(cell) else float(cell) for cell in cells]
    return cells


Test = Callable[[pa.DataType], bool]
_TEXTS: tuple[Test, ...] = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
_TAKEN: Mapping[ColumnKind, tuple[Test, ...]] = {
    ColumnKind.NUMBER: (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null),
    ColumnKind.CATEGORY: _TEXTS,
    ColumnKind.BOOL: (pa.types.is_boolean, pa.types.is_null),
    ColumnKind.DATE: (pa.types.is_date, pa.types.is_timestamp, *_TEXTS),
}
_NEEDED = {
    ColumnKind.NUMBER: "a number",
    ColumnKind.CATEGORY: "a text",
    ColumnKind.BOOL: "a truth value",
    ColumnKind.DATE: "a date or a text",
}

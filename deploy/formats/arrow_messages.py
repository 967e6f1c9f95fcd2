"""What the messages of an Arrow IPC stream say before their bytes are unpacked.

A few compressed bytes can unpack to gigabytes, and pyarrow unpacks whatever it reads. So the heads of the messages are
read first: how many rows a batch has, and whether its buffers are compressed. A head is a flatbuffer; the fields and
their places are those of `Message.fbs` in Arrow's columnar format 1.5.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

SCHEMA, DICTIONARY, BATCH = 1, 2, 3  # Message.header_type
_HEADER_TYPE, _HEADER, _BODY_LENGTH = 1, 2, 3  # the places of fields in Message
_DATA = 1  # in DictionaryBatch
_LENGTH, _COMPRESSION = 0, 3  # in RecordBatch
_CONTINUATION = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class MessageHead:
    """The kind of a message; of one with cells, how many rows it has and whether they are compressed."""

    kind: int
    rows: int = 0
    is_compressed: bool = False


def message_heads(stream: bytes) -> Iterator[MessageHead]:
    """Yields the heads of a stream's messages, in order.

    Raises:
        ValueError: the stream is not one, or ends in the middle of a message.
    """
    place = 0
    try:
        while place < len(stream):
            size, place = _head_size(stream, place)
            if size == 0:
                return
            head, body_length = _read_head(_Flat(stream[place : place + size]))
            place += size + body_length
            if place > len(stream) or body_length < 0:
                raise ValueError("it ends in the middle of a message")
            yield head
    except (struct.error, IndexError) as error:
        raise ValueError(f"a message cannot be read ({error})") from error


class _Flat:
    """A flatbuffer: little-endian, tables reached by offsets, absent fields have no offset."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def read(self, form: str, place: int) -> int:
        if place < 0:
            raise IndexError(place)
        value: int = struct.unpack_from(form, self._content, place)[0]
        return value

    def root(self) -> int:
        return self.read("<I", 0)

    def field(self, table: int, number: int) -> int:
        """Returns where a field of a table lies, or 0 where it is absent."""
        entries = table - self.read("<i", table)
        entry = 4 + 2 * number
        if entry >= self.read("<H", entries):
            return 0
        offset = self.read("<H", entries + entry)
        return table + offset if offset else 0

    def table(self, place: int) -> int:
        """Returns the table that the field at `place` leads to."""
        return place + self.read("<I", place)


def _head_size(stream: bytes, place: int) -> tuple[int, int]:
    first = struct.unpack_from("<I", stream, place)[0]
    if first != _CONTINUATION:  # as streams were before Arrow 0.15
        return first, place + 4
    return struct.unpack_from("<I", stream, place + 4)[0], place + 8


def _read_head(flat: _Flat) -> tuple[MessageHead, int]:
    message = flat.root()
    kind_at, header_at, body_at = (flat.field(message, number) for number in (_HEADER_TYPE, _HEADER, _BODY_LENGTH))
    kind = flat.read("<B", kind_at) if kind_at else 0
    body = flat.read("<q", body_at) if body_at else 0
    if kind not in (DICTIONARY, BATCH) or not header_at:
        return MessageHead(kind), body
    batch = flat.table(header_at)
    if kind == DICTIONARY:
        data_at = flat.field(batch, _DATA)
        if not data_at:
            return MessageHead(kind), body
        batch = flat.table(data_at)
    length_at = flat.field(batch, _LENGTH)
    rows = flat.read("<q", length_at) if length_at else 0
    return MessageHead(kind, rows, bool(flat.field(batch, _COMPRESSION))), body

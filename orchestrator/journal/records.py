"""How one batch of events lies in a file: length, CRC-32, JSON.

`record = length (4 bytes, little-endian) + CRC-32 (4 bytes) + payload`. The checksum starts from the length, so that a
flipped bit in the length is seen as one in the payload. JSON text holds no control bytes while a length below 16 MiB
has one, so no place inside a payload can be taken for the beginning of a record.
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any
from zlib import crc32

import orjson

HEAD = struct.Struct("<II")
SHORTEST = 2  # bytes of payload: "[]"; a stretch of zeros, which a power cut leaves behind, is therefore no record


def encode_events(events: Sequence[Mapping[str, Any]]) -> bytes:
    """Returns the batch as JSON.

    Raises:
        ValueError: a number in it is NaN or infinite, which JSON cannot hold.
    """
    payload = orjson.dumps(events)
    # orjson writes null for a number that is not finite: looking closer costs nothing where no null is
    if b"null" in payload:
        for event in events:
            _refuse_non_finite(event, "")
    return payload


def _refuse_non_finite(value: Any, path: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"an event holds {value} at '{path}'; a journal takes finite numbers only: encode it as text")
    if isinstance(value, Mapping):
        for key, entry in value.items():
            _refuse_non_finite(entry, f"{path}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            _refuse_non_finite(entry, f"{path}[{index}]")


def pack(payload: bytes) -> bytes:
    """Returns the whole record around a payload."""
    return HEAD.pack(len(payload), crc32(payload, len(payload))) + payload


def record_end(data: bytes, start: int) -> int | None:
    """Returns where the record at `start` ends, or None where no whole record that checks begins there."""
    if start + HEAD.size + SHORTEST > len(data):
        return None
    length, checksum = HEAD.unpack_from(data, start)
    end = start + HEAD.size + length
    if length < SHORTEST or end > len(data):
        return None
    payload = memoryview(data)[start + HEAD.size : end]
    return end if crc32(payload, length) == checksum else None


def payload_of(data: bytes, start: int, end: int) -> Any:
    """Returns the decoded payload of the record in `data[start:end]`."""
    return orjson.loads(memoryview(data)[start + HEAD.size : end])


def next_batch(data: bytes, after: int) -> int | None:
    """Returns the first place above `after` where a whole batch of events begins, or None.

    It tells a damaged middle from a torn tail: nothing that checks comes behind a tail.
    """
    bracket = data.find(b"[", after + 1 + HEAD.size)
    while bracket != -1:
        if record_end(data, bracket - HEAD.size) is not None:
            return bracket - HEAD.size
        bracket = data.find(b"[", bracket + 1)
    return None

"""Few objects out of many: a run of one epoch's segments in one object, `<epoch>-<writer>-<first>-<last>.pack`.

A pack holds its segments' own bytes, one after the other and deflated, behind a header record
`{"format", "epoch", "writer", "first", "last", "bytes", "sha256"}`. Segments never change, so whoever packs the same
ones writes the same, packs may overlap, and a segment beside its pack adds nothing: it may be deleted at any time, by
anybody, however late the request arrives.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

import orjson

from orchestrator.journal.records import pack, payload_of, record_end

FORMAT = 1
LEVEL = 1  # zlib's fastest; JSON shrinks to a seventh


@dataclass(frozen=True, slots=True)
class PackHeader:
    """What a pack says of itself."""

    epoch: int
    writer: str
    first: int
    last: int

    @property
    def name(self) -> str:
        """Its object's name in the journal."""
        return f"{self.epoch:08d}-{self.writer}-{self.first:08d}-{self.last:08d}.pack"

    def encode(self, segments: Sequence[bytes]) -> bytes:
        """Returns the object."""
        content = b"".join(segments)
        return pack(orjson.dumps(self._said(content))) + zlib.compress(content, LEVEL)

    def decode(self, data: bytes) -> bytes | None:
        """Returns the segments' bytes, or None where the object is not that pack, whole."""
        end = record_end(data, 0)
        if end is None:
            return None
        try:
            content = zlib.decompress(memoryview(data)[end:])
        except zlib.error:
            return None
        return content if payload_of(data, 0, end) == self._said(content) else None

    def _said(self, content: bytes) -> dict[str, object]:
        return {
            "format": FORMAT,
            "epoch": self.epoch,
            "writer": self.writer,
            "first": self.first,
            "last": self.last,
            "bytes": len(content),
            "sha256": sha256(content).hexdigest(),
        }

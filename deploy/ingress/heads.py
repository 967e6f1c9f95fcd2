"""Heads of requests that were read before, and the heads of their answers: most are the same, byte for byte, for long.

A client on a kept connection says the same of each request but for the body. What an HTTP parser and the checks behind
it made of a head holds for the same bytes, so they are read once. They are known by their hash alone, because a token
stands in them, and only heads of requests that were answered are remembered: nobody without a token fills the memory.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from deploy.answering.app import EndpointApp, Plain, PlainPaths
from deploy.answering.shared_app import SharedApp
from deploy.http.asgi import Answer, Header, body_of

MOST = 1024  # heads at once; they differ by their clients, and by the length of the body
METHOD = b"POST "
END = b"\r\n\r\n"
STATUS = b"HTTP/1.1 200 OK\r\n"

Found = tuple[EndpointApp | SharedApp, str] | None
"""The application that requests are for, and the prefix of its paths."""

NOBODY: tuple[PlainPaths, str] = ({}, "")


class Head(NamedTuple):
    """The head of a plain request: who answers it, what it says, and how long the body is (bytes)."""

    app: EndpointApp
    plain: Plain
    size: int


class Came(NamedTuple):
    """A head as it came: its hash, and its length (bytes)."""

    digest: bytes
    length: int


class Heads:
    """The heads that one server has read. Used by one event loop."""

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}
        self._paths, self._prefix = NOBODY

    @staticmethod
    def came(data: bytes) -> Came | None:
        """Returns the head at the beginning of what came, where it is whole and may be plain."""
        if not data.startswith(METHOD):  # an empty line before it would be taken for a head of its own
            return None
        length = data.find(END) + len(END)
        return Came(hashlib.sha256(data[:length]).digest(), length) if length >= len(END) else None

    def find(self, found: Found, came: Came) -> Head | None:
        """Returns what was read in a head; None where it is new, or was read for another application."""
        self._turn_to(found)
        return self._known.get(came.digest)

    def learn(self, found: Found, came: Came, head: Head) -> None:
        """Remembers what was read in a head; forgets all others where there are too many."""
        self._turn_to(found)
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[came.digest] = head

    def _turn_to(self, found: Found) -> None:
        """Forgets what was read for other applications: it means nothing any more, and would hold their models."""
        paths, prefix = NOBODY if found is None else (found[0].plain_paths, found[1])
        if paths is not self._paths or prefix != self._prefix:
            self._known.clear()
            self._paths, self._prefix = paths, prefix


@lru_cache(maxsize=64)  # the date is one of them: most are asked for within a second
def _lines(headers: tuple[Header, ...]) -> bytes:
    return STATUS + b"".join(b"%b: %b\r\n" % pair for pair in headers)


def written(usual: Sequence[Header], answer: Answer) -> bytes:
    """Returns an answer of status 200 as it is sent.

    Args:
        usual: the server's own headers.
        answer: with headers, of which all but the last are the same for long.
    """
    body = body_of(answer)
    lines = _lines((*usual, (b"content-type", answer.media.encode()), *answer.headers[:-1]))
    name, value = answer.headers[-1]
    return b"%b%b: %b\r\ncontent-length: %d\r\n\r\n%b" % (lines, name, value, len(body), body)

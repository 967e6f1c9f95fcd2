"""HTTP as no client library would write it: bytes on a socket, in pieces, cut off, or never ended."""

import random
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

WEBSOCKET = (
    b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
METHODS = (b"GET", b"PUT", b"DELETE", b"HEAD", b"OPTIONS", b"TRACE", b"CONNECT", b"get", b"P\x00ST", b"X" * 9000)
TARGETS = (
    *(b"/", b"*", b"//", b"/..", b"/../../etc/passwd", b"/%00", b"/%ff%fe", b"/%", b"/\xff\xfe", b"/predict%2f"),
    *(b"/" + b"a" * 60000, b"http://there/predict", b"predict", b"", b"/v2/models/%ed%a0%80/infer"),
    *(b"/v2/models//infer", b"/-/routes", b"/-/healthz", b"/predict?" + b"a=b&" * 9000, b"/predict#x", b"/\xd0\xb6"),
    b"/v2/models/" + b"%25" * 3000,
)
LINES = (
    *(b"", b"\r\n", b"\x00" * 400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200, b"GET\r\n\r\n"),
    *(b"GET /\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n", b"GET / HTTP/3.7\r\n\r\n", b"GET / HTTP/1.1 x\r\n\r\n"),
    *(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"GET / HTTP/1.1\n\n"),
    *(b"GET  /  HTTP/1.1\r\n\r\n", b"POST /predict HTTP/1.0\r\n\r\n"),
)
LARGEST = 1 << 20  # of an answer
PIECE_SECONDS = 0.05
LISTENING_SECONDS = 1.0  # for an answer, before a client hangs up its side: a server gives up on it then


@dataclass(frozen=True)
class Said:
    """What a client writes: pieces with a pause between them, and whether it then hangs up its side.

    `statuses` are those that may come back; none at all is a connection that is closed without a word.
    """

    what: str
    pieces: tuple[bytes, ...]
    hangs_up: bool = False
    answers: int | None = None  # how many have to come, where that is known


@dataclass
class Heard:
    """What came back, and after how many seconds the last of it; `closed` is whether the server hung up."""

    content: bytes = b""
    seconds: float = 0.0
    closed: bool = False
    statuses: list[int] = field(default_factory=list)


def converse(host: str, port: int, said: Said, patience: float) -> Heard:
    """Writes and reads until the server hangs up, has answered as often as was to be expected, or patience ends.

    Who says too little for an answer, and hangs up, does so when none has come for a second.
    """
    heard, began = Heard(), time.monotonic()
    with socket.create_connection((host, port), timeout=patience) as connection:
        try:
            for number, piece in enumerate(said.pieces):
                if number:
                    time.sleep(PIECE_SECONDS)
                connection.sendall(piece)
            while len(heard.content) < LARGEST:
                left = began + patience - time.monotonic()
                if left <= 0:
                    break
                connection.settimeout(left)
                if said.hangs_up and not select.select([connection], [], [], LISTENING_SECONDS)[0]:
                    connection.shutdown(socket.SHUT_WR)
                chunk = connection.recv(65536)
                heard.closed = not chunk
                heard.content += chunk
                if heard.closed or (said.answers and heard.content.count(b"HTTP/1.1 ") >= said.answers):
                    break
        except TimeoutError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            heard.closed = True  # it was told enough; what it had said is lost with the connection
    heard.seconds = time.monotonic() - began
    heard.statuses = list(_statuses(heard.content))
    return heard


def _statuses(content: bytes) -> Iterator[int]:
    for part in content.split(b"HTTP/1.1 ")[1:]:
        if part[:3].isdigit():
            yield int(part[:3])


def request(method: bytes, path: bytes, headers: bytes, body: bytes) -> bytes:
    """Returns a whole request; `headers` are lines that end with CRLF each."""
    return method + b" " + path + b" HTTP/1.1\r\nHost: here\r\nConnection: close\r\n" + headers + b"\r\n" + body


def conversations(prefix: str, token: str, body: bytes, chance: random.Random) -> Iterator[Said]:
    """Yields what hostile and broken clients write to `POST /predict` and beside it; `body` is a good one."""
    path, auth = f"{prefix}/predict".encode(), f"Authorization: Bearer {token}\r\n".encode()
    kind = auth + b"Content-Type: application/json\r\n"
    sized = kind + b"Content-Length: %d\r\n" % len(body)
    whole = request(b"POST", path, sized, body).replace(b"Connection: close\r\n", b"")
    yield from _pieces(whole)
    for method in METHODS:
        yield Said(f"the method {method[:9]!r}", (request(method, path, sized, body),), hangs_up=True)
    for target in TARGETS:
        yield Said(f"the target {target[:30]!r}", (request(b"POST", target, sized, body),), hangs_up=True)
    for line in LINES:
        yield Said(f"the line {line[:30]!r}", (line,), hangs_up=True)
    for what, lines in _headers(auth, kind, sized, len(body)).items():
        yield Said(what, (request(b"POST", path, lines, body),), hangs_up=True)
    yield Said("a websocket", (request(b"GET", path, auth + WEBSOCKET, b""),), hangs_up=True)
    for what, content in _chunks(body).items():
        lines = kind + b"Transfer-Encoding: chunked\r\n"
        yield Said(f"chunks: {what}", (request(b"POST", path, lines, content),), hangs_up=True)
    for number in range(60):
        cut = chance.randrange(1, len(whole))
        yield Said(f"cut off after {cut} bytes ({number})", (whole[:cut],), hangs_up=True)
    for number in range(150):
        made = bytearray(whole)
        for _ in range(chance.choice([1, 2, 5])):
            made[chance.randrange(len(made))] = chance.randrange(256)
        yield Said(f"bytes replaced ({number})", (bytes(made),), hangs_up=True)


def _pieces(whole: bytes) -> Iterator[Said]:
    yield Said("three requests in one write", (whole * 3,), answers=3)
    yield Said("two requests and half a third", (whole * 2 + whole[: len(whole) // 2],), hangs_up=True)
    yield Said("byte for byte at the beginning", (*(whole[i : i + 1] for i in range(30)), whole[30:]), answers=1)
    slow = (whole[:-40], *(whole[i : i + 8] for i in range(-40, -8, 8)), whole[-8:])
    yield Said("a body in slow pieces", slow, answers=1)


def _headers(auth: bytes, kind: bytes, sized: bytes, size: int) -> dict[str, bytes]:
    """Returns lines of headers that lie, are too many or too large, or are none."""
    return {
        "no length": kind,
        "a length that is a word": kind + b"Content-Length: many\r\n",
        "a negative length": kind + b"Content-Length: -5\r\n",
        "a signed length": kind + b"Content-Length: +5\r\n",
        "a length of 40 digits": kind + b"Content-Length: " + b"9" * 40 + b"\r\n",
        "a length of 64 GiB": kind + b"Content-Length: 68719476736\r\n",
        "two lengths": sized + b"Content-Length: 3\r\n",
        "a length and chunks": sized + b"Transfer-Encoding: chunked\r\n",
        "too short a length": kind + b"Content-Length: %d\r\n" % (size - 9),
        "too long a length": kind + b"Content-Length: %d\r\n" % (size + 9),
        "an unknown coding": kind + b"Transfer-Encoding: brotli\r\n",
        "gzip and chunks": kind + b"Transfer-Encoding: gzip, chunked\r\n",
        "a header of 100 kB": sized + b"X-Large: " + b"x" * 100_000 + b"\r\n",
        "2000 headers": sized + b"X-Many: 1\r\n" * 2000,
        "a NUL in a header": sized + b"X-Nul: a\x00b\r\n",
        "a header without a name": sized + b": x\r\n",
        "a folded header": sized + b" folded\r\n",
        "a header without a colon": sized + b"nothing\r\n",
        "a name with a space": sized + b"X Y: z\r\n",
        "a control character": sized + b"X\x01: z\r\n",
        "a token of bytes": b"Authorization: Bearer \xff\xfe\r\n" + sized[len(auth) :],
        "a kind of bytes": auth + b"Content-Type: \xff\xfe;charset=\xff\r\n",
        "a kind of 60 kB": auth + b"Content-Type: " + b"x" * 60000 + b"\r\n",
        "an Accept of bytes": sized + b"Accept: \xff;q=\xff,,;;\r\n",
        "an Accept of 40 kB": sized + b"Accept: " + b"a/b;q=0.1," * 4000 + b"\r\n",
        "a key of bytes": sized + b"X-Routing-Key: \xff\xfe\r\n",
        "a websocket with POST": auth + WEBSOCKET,
        "h2c": sized + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Expect": sized + b"Expect: 100-continue\r\n",
        "an odd Expect": sized + b"Expect: the-unexpected\r\n",
        "gzip": sized + b"Content-Encoding: gzip\r\n",
        "two codings": sized + b"Content-Encoding: gzip, gzip\r\n",
        "an odd length of the JSON": sized + b"Inference-Header-Content-Length: -1\r\n",
    }


def _chunks(body: bytes) -> dict[str, bytes]:
    """Returns chunked bodies that are cut off, or whose sizes are none."""
    good = b"%x\r\n%s\r\n" % (len(body), body)
    return {
        "one is cut off": b"%x\r\n%s" % (len(body) + 9, body),
        "no last one": good,
        "without a size": b"\r\n" + body,
        "of a negative size": b"-5\r\n" + body + b"\r\n0\r\n\r\n",
        "of a huge size": b"f" * 30 + b"\r\n" + body,
        "of a size that is a word": b"many\r\n" + body,
        "nothing": b"",
        "an extension of 60 kB": b"%x;%s\r\n%s\r\n0\r\n\r\n" % (len(body), b"x" * 60000, body),
        "trailers": good + b"0\r\nX-Trailer: 1\r\n\r\n",
        "10,000 of a byte": b"1\r\n[\r\n" * 10_000 + b"0\r\n\r\n",
    }

"""A proxy before an S3 server, which counts requests and makes trouble on demand."""

import http.client
import itertools
import socket
import struct
import threading
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>by the test</Message></Error>"

HOP_BY_HOP = {"connection", "content-length", "expect", "transfer-encoding"}


@dataclass(frozen=True, slots=True)
class Call:
    """One request: its verb, its path with its question, and the bytes of both bodies."""

    verb: str
    path: str
    size_bytes: int


class StoreProxy:
    """Forwards to a port. `refuse`, `hang` and `reset` are numbers of requests to come that are treated so.

    With `break_every` one request in so many goes wrong, in each of the ways of `WRONG` by turns.
    """

    WRONG = ((500, "InternalError"), (503, "SlowDown"), None)  # None: the connection is reset

    def __init__(self, target: int) -> None:
        self.requests: list[str] = []  # as they come
        self.calls: list[Call] = []  # as they are answered by the server
        self.refuse, self.status, self.code = 0, 503, "SlowDown"
        self.hang = self.reset = self.break_every = 0
        self.broken = 0  # how many `break_every` broke
        self.delay_seconds = 0.0
        self.is_cut = False
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def forward(self) -> None:
                body = self.body()
                proxy.requests.append(f"{self.command} {self.path}")
                if proxy.hang:
                    proxy.hang -= 1
                    proxy.released.wait(60)
                    self.close_connection = True
                    return
                if proxy.is_cut:
                    self.close_connection = True
                    return
                if proxy.reset:
                    proxy.reset -= 1
                    self.reset_connection()
                    return
                if proxy.break_every and next(proxy.counted) % proxy.break_every == 0:
                    proxy.broken += 1
                    wrong = proxy.WRONG[proxy.broken % len(proxy.WRONG)]
                    if wrong is None:
                        self.reset_connection()
                    else:
                        self.answer(wrong[0], [], ERROR.format(code=wrong[1]).encode())
                    return
                time.sleep(proxy.delay_seconds)
                if proxy.refuse:
                    proxy.refuse -= 1
                    self.answer(proxy.status, [], ERROR.format(code=proxy.code).encode())
                    return
                server = http.client.HTTPConnection("127.0.0.1", target)
                headers = {key: value for key, value in self.headers.items() if key.lower() not in HOP_BY_HOP}
                server.request(self.command, self.path, body, {**headers, "Content-Length": str(len(body))})
                response = server.getresponse()
                content = response.read()
                proxy.calls.append(Call(self.command, self.path, len(body) + len(content)))
                self.answer(response.status, response.getheaders(), content)
                server.close()

            def reset_connection(self) -> None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                pieces = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    pieces.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(pieces)

            def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response_only(status)
                length = str(len(body))
                for key, value in headers:
                    if key.lower() == "content-length":
                        length = value  # of a HEAD it is the object's
                    elif key.lower() not in ("connection", "transfer-encoding"):
                        self.send_header(key, value)
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815 - names of the standard library

            def log_message(self, *_: object) -> None:
                pass

        self.counted = itertools.count(1)
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "StoreProxy":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def address(self, bucket: str) -> str:
        """Returns the storage behind the proxy."""
        return f"s3://{bucket}/runs?scheme=http&endpoint_override=127.0.0.1:{self.port}"

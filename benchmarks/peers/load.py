"""A load generator: one thread, kept connections, raw sockets, the next request as soon as the answer has come.

A process of its own, so that its work is not in anybody's event loop. It costs some 20 µs a request, against 100 µs
and more of whoever answers; which share of a core that was is printed beside the figures (`client_share`).

    python load.py HOST PORT REQUEST-FILE CONNECTIONS SECONDS

The file holds the bytes of one request. Prints JSON: latencies in seconds as quantiles, answers a second, and what was
no 200.
"""

import json
import selectors
import socket
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

RECEIVED = 1 << 18
END = b"\r\n\r\n"
LENGTH = b"content-length:"
STALLED_SECONDS = 5.0  # without an answer on any connection


@dataclass(slots=True)
class Asking:
    """One connection: what of the answer has come, and when its request was sent."""

    connection: socket.socket
    sent: float = 0.0
    came: bytes = b""
    whole: int = 0  # bytes of the answer, once its head has come
    rest: bytes = b""  # of the request, where the socket did not take all


def length_of(head: bytes) -> int:
    low = head.lower()
    start = low.index(LENGTH) + len(LENGTH)
    end = low.find(b"\r", start)
    return int(low[start : end if end >= 0 else len(low)])


class Load:
    def __init__(self, host: str, port: int, request: bytes, connections: int) -> None:
        self.request = request
        self.selector = selectors.DefaultSelector()
        self.latencies: list[float] = []
        self.wrong: dict[str, int] = {}
        self.broken = 0
        self._place = (host, port)
        self.open = [self._connect() for _ in range(connections)]

    def run(self, seconds: float) -> float:
        """Asks for so long; returns how long it was, from the first request to the last answer."""
        began = time.perf_counter()
        until = began + seconds
        for asking in self.open:
            self._send(asking)
        running, last = len(self.open), began
        while running:
            events = self.selector.select(timeout=STALLED_SECONDS)
            if not events:
                break
            for key, mask in events:
                asking: Asking = key.data
                if mask & selectors.EVENT_WRITE:
                    self._push(asking)
                if mask & selectors.EVENT_READ and self._read(asking):
                    last = time.perf_counter()
                    self.latencies.append(last - asking.sent)
                    if last < until:
                        self._send(asking)
                    else:
                        running -= 1
        self.broken += running
        return last - began

    def _connect(self) -> Asking:
        connection = socket.create_connection(self._place, timeout=10.0)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        asking = Asking(connection)
        self.selector.register(connection, selectors.EVENT_READ, asking)
        return asking

    def _send(self, asking: Asking) -> None:
        asking.came, asking.whole, asking.rest = b"", 0, self.request
        asking.sent = time.perf_counter()
        self._push(asking)

    def _push(self, asking: Asking) -> None:
        with suppress(BlockingIOError):
            asking.rest = asking.rest[asking.connection.send(asking.rest) :]
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if asking.rest else 0)
        if self.selector.get_key(asking.connection).events != wanted:
            self.selector.modify(asking.connection, wanted, asking)

    def _read(self, asking: Asking) -> bool:
        """Returns whether the answer is whole now."""
        try:
            part = asking.connection.recv(RECEIVED)
        except BlockingIOError:
            return False
        except OSError:
            part = b""
        if not part:
            self.broken += 1
            self.selector.unregister(asking.connection)
            asking.connection.close()
            fresh = self._connect()
            self._send(fresh)
            return False
        asking.came = asking.came + part if asking.came else part
        if not asking.whole:
            end = asking.came.find(END)
            if end < 0:
                return False
            asking.whole = end + len(END) + length_of(asking.came[:end])
        if len(asking.came) < asking.whole:
            return False
        if asking.came[9:12] != b"200":
            status = asking.came[9:12].decode()
            self.wrong[status] = self.wrong.get(status, 0) + 1
        return True


def quantile(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None


def main() -> None:
    host, port, file, connections, seconds = sys.argv[1:]
    load = Load(host, int(port), Path(file).read_bytes(), int(connections))
    cpu = time.process_time()
    took = load.run(float(seconds))
    cpu = time.process_time() - cpu
    ordered = sorted(load.latencies)
    print(
        json.dumps(
            {
                "requests": len(ordered),
                "per_s": len(ordered) / took if took else 0.0,
                "p50_s": quantile(ordered, 0.5),
                "p99_s": quantile(ordered, 0.99),
                "no_200": load.wrong,
                "broken": load.broken,
                "client_share": cpu / took if took else 0.0,
            }
        )
    )


if __name__ == "__main__":
    main()

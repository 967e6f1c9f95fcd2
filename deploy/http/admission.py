"""How many requests a replica holds at once: one more is told at once to come back, instead of waiting in memory."""

from deploy.http.asgi import Refusal

RETRY_AFTER_SECONDS = b"1"


class Admission:
    """Counts the requests that were let in and are not answered yet, and their bytes. Used by one event loop.

    Args:
        most: requests at once.
        most_bytes: bytes of their bodies at once; a single request is let in whatever its size.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self.inside = 0

    def enter(self, size: int) -> None:
        """Lets a request with a body of `size` bytes in; whoever was let in has to `leave`.

        Raises:
            Refusal: 429, with when to come back.
        """
        if self.inside and (self.inside >= self._most or self._bytes + size > self._most_bytes):
            raise Refusal(
                429,
                f"{self.inside} requests wait here already. Try again in a moment.",
                [(b"retry-after", RETRY_AFTER_SECONDS)],
            )
        self.inside += 1
        self._bytes += size

    def leave(self, size: int) -> None:
        """Takes back what `enter` counted."""
        self.inside -= 1
        self._bytes -= size

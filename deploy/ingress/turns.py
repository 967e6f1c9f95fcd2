"""Short turns of the event loop while clients connect, so that those who come are not kept waiting by those who are in.

libuv, which uvloop is made of, takes in one connection in each turn of its loop. Where requests are answered within a
turn, as `direct` does, and those that are in ask again at once, each turn is as long as all their answers: of 256
clients that came together the last one was let in after 0.6 s. So while connections come, a turn answers one request,
and what else was sent waits; it costs nothing at any other time.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

LONGEST = 16 * 1024  # of what waits; more of it is a body on its way, which is not answered within a turn
QUIET = 2  # turns without a connection, after which no more are waited for


class Turns:
    """What was sent while connections come, in its order. Used by the event loop whose turns they are."""

    def __init__(self) -> None:
        self.are_short = False
        self._waiting: deque[Callable[[], None]] = deque()
        self._quiet = 0

    def came(self) -> None:
        """Notes that a connection came: turns are short until several have passed in which none does."""
        self._quiet = 0
        if not self.are_short:
            self.are_short = True
            asyncio.get_running_loop().call_soon(self._turn)

    def wait(self, read: Callable[[], None]) -> None:
        """Calls `read` in a later turn."""
        self._waiting.append(read)

    def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        self._quiet += 1
        if self._quiet <= QUIET:
            loop.call_soon(self._turn)
            if self._waiting:
                self._waiting.popleft()()
            return
        self.are_short = False
        while self._waiting:  # one that raises keeps none of the others waiting
            loop.call_soon(self._waiting.popleft())


_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """Returns the turns of an event loop, which all its connections share."""
    turns = _TURNS.get(loop)
    if turns is None:
        turns = _TURNS[loop] = Turns()
    return turns

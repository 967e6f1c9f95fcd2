"""How long a request's body may take to come: a client that promises bytes and sends none must not hold a place.

One look a few times in the time covers all bodies that are on their way; a timer for each would cost a request ten
times as much (3 µs).
"""

import asyncio
from collections.abc import Callable
from typing import Any

BODY_SECONDS = 20.0  # 8 MiB in that time are 3 Mbit/s
LOOKS = 4  # in the time: a body is given up after at most a quarter more of it


class Patience:
    """Gives bodies up that do not come. Used by one event loop."""

    def __init__(self, seconds: float = BODY_SECONDS) -> None:
        self.seconds = seconds
        self._since: dict[asyncio.Task[Any], float] = {}
        self._given_up: set[asyncio.Task[Any]] = set()
        self._looks = False

    def begin(self) -> "asyncio.Task[Any] | None":
        """Begins to wait in the present task; returns what `end` has to be given."""
        task = asyncio.current_task()
        if task is not None:
            loop = asyncio.get_running_loop()
            self._since[task] = loop.time()
            if not self._looks:
                self._looks = True
                loop.call_later(self.seconds / LOOKS, self._look, loop.time, loop.call_later)
        return task

    def end(self, task: "asyncio.Task[Any] | None") -> bool:
        """Ends it; returns whether the task was cancelled because the body did not come."""
        if task is None:
            return False
        self._since.pop(task, None)
        if task not in self._given_up:
            return False
        self._given_up.discard(task)
        task.uncancel()
        return True

    def _look(self, now: Callable[[], float], call_later: Callable[..., Any]) -> None:
        end = now() - self.seconds
        for task in [task for task, since in self._since.items() if since <= end]:
            del self._since[task]
            self._given_up.add(task)
            task.cancel()
        self._looks = bool(self._since)
        if self._looks:
            call_later(self.seconds / LOOKS, self._look, now, call_later)

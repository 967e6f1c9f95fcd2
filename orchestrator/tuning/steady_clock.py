"""The clock of a study's writer: what the wall clock said when it began, and the time that really passed since.

A wall clock may be set, by an hour or by a second. A study counts its budget, the silence of its trials and the beats
of its hosts in differences, and a jump must be none of them. The next life begins with the wall clock as it is then.
"""

import time
from collections.abc import Callable

from orchestrator.journal import elapsed_seconds


class SteadyClock:
    """Seconds since the epoch that only ever grow, as fast as time passes. For any thread."""

    def __init__(self, wall: Callable[[], float] = time.time, elapsed: Callable[[], float] = elapsed_seconds) -> None:
        self._elapsed = elapsed
        self._beginning = wall() - elapsed()

    def __call__(self) -> float:
        """Returns them."""
        return self._beginning + self._elapsed()

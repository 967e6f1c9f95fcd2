"""How long a client waits before it asks again."""

import random
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0
PATIENCE_SECONDS = 10.0  # who is asked to wait longer is told so instead


class Attempts:
    """The pauses between the attempts of one request: each twice the one before, less a random part of it.

    The random part keeps clients that failed together from coming back together ("full jitter").
    """

    def __init__(self, most: int, chance: random.Random) -> None:
        self._left = most - 1
        self._limit = FIRST_PAUSE_SECONDS
        self._chance = chance

    def next_pause(self, asked_seconds: float | None = None) -> float | None:
        """Returns how long to wait before the next attempt; None when there is none.

        Args:
            asked_seconds: what the server asked for, if anything.
        """
        self._left -= 1
        if self._left < 0 or (asked_seconds or 0.0) > PATIENCE_SECONDS:
            return None
        pause = self._chance.uniform(0.0, self._limit)
        self._limit = min(2 * self._limit, LONGEST_PAUSE_SECONDS)
        return pause if asked_seconds is None else asked_seconds


def asked_pause(retry_after: str | None) -> float | None:
    """Returns the seconds that a Retry-After header asks for, whole seconds or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (date - datetime.now(UTC)).total_seconds()) if date.tzinfo else None

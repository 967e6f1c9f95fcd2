"""Copies of requests, off the way of the answers: what the other model would have said.

One thread asks it; the queue is short, and a copy that finds it full is dropped: a busy replica answers clients.
"""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.answering.answer_id import first_differs
from deploy.answering.tally import Tally
from deploy.bundle import Bundle, Prediction, Table

QUEUED = 64
MOST_ROWS = 256  # of a copy; a larger one would hold the thread while many small ones are dropped


@dataclass(frozen=True, slots=True)
class Copy:
    """A request that was answered, and the model that is asked the same now.

    With `computing`, which is held meanwhile, that is a challenger in the shadow, whose failures and times are counted;
    without, the champion beside a challenger that answered.
    """

    bundle: Bundle
    rows: NDArray[np.float32] | Table
    prediction: Prediction
    tally: Tally
    computing: Callable[[], AbstractContextManager[None]] | None = None


class Copies:
    """Takes copies and compares. Its thread is started with the first one."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Copy] = queue.Queue(QUEUED)
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def offer(self, copy: Copy) -> bool:
        """Takes a copy, or drops it; never waits. Called by one thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="copies", daemon=True)
            self._thread.start()
        try:
            if len(copy.rows) > MOST_ROWS:
                raise queue.Full
            self._queue.put_nowait(copy)
        except queue.Full:
            self.dropped += 1
            return False
        return True

    def _work(self) -> None:
        while True:
            _compare(self._queue.get())


def _compare(copy: Copy) -> None:
    start = time.thread_time()
    try:
        with nullcontext() if copy.computing is None else copy.computing():
            other = copy.bundle.predict(copy.rows)
        seconds, differed = time.thread_time() - start, first_differs(copy.prediction, other)
    except Exception:  # noqa: BLE001 - a thread's edge: that a model fails is what is counted here
        if copy.computing is not None:
            copy.tally.challenger(failed=True)
        return
    if copy.computing is not None:
        copy.tally.challenger(seconds)
    copy.tally.compared(differed=differed)

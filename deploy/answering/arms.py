"""Which of two models answers a request while a rollout goes on, and what a failing challenger costs: nothing.

A request with a key goes to the same arm each time, on every replica, and stays with the challenger when its share
grows; one without goes by chance. The challenger answers in threads of its own and within a deadline. Where it raises,
hangs or is out of threads, the same request is answered by the champion: no client gets an error of the challenger's.
"""

import asyncio
import hashlib
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from deploy.answering.batching import Batcher
from deploy.answering.copying import Copies, Copy
from deploy.answering.served import Contender, Served
from deploy.answering.tally import Pace
from deploy.bundle import Prediction, Table
from deploy.http.asgi import Refusal
from deploy.http.deadline import check_deadline
from deploy.monitoring.traffic import Traffic
from orchestrator.domain.rollout import SHADOW

DEADLINE_SECONDS = 2.0  # for a challenger's answer; clients wait several times longer before they give up
# Of the requests while there is one model: a thread's clock is a call of the kernel, 0.4 µs on a plain host, 20 µs in
# some sandboxes. More of the first ones, so that the pace is known soon.
TIMED_EVERY, TIMED_FIRST_EVERY, FIRST = 64, 4, 400
THREADS = 4  # for challengers; those that hang hold no more than these

T = TypeVar("T")


class Begun(NamedTuple, Generic[T]):
    """A request that was read for a model: its rows, and how to write the answer once the model has said something."""

    rows: NDArray[np.float32] | Table
    finish: Callable[[Prediction], T]


class Worked(NamedTuple, Generic[T]):
    """What a model made of a request: the answer, the rows it was asked, what it predicted, and which model it was."""

    answer: T
    rows: NDArray[np.float32] | Table
    prediction: Prediction
    model: Served


Work = Callable[[Served], Begun[T]]
"""Reads a request for a given model; may be called in a thread, and once more for another model."""


@dataclass(frozen=True, slots=True)
class Manner:
    """How a request is to be answered.

    `beside`: it is so large that its work leaves the event loop to others. `alone`: no other request is in this
    replica. `deadline`: of `time.monotonic`, after which nothing is computed for it.
    """

    beside: bool = False
    alone: bool = True
    deadline: float | None = None


class Arms:
    """Asks the right model. Used by one event loop."""

    def __init__(self, batcher: Batcher) -> None:
        self._batcher = batcher
        self._copies = Copies()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="challenger")
        self._free = threading.Semaphore(THREADS)
        self._chance = random.Random()
        self._pace = Pace()
        self._turn = 0
        self.traffic = Traffic()

    @property
    def usual_seconds(self) -> float | None:
        """What nine of ten of the champion's answers took at most, where that is known."""
        return self._pace.usual_seconds

    async def answer(self, served: Served, key: bytes | None, work: Work[T], manner: Manner) -> Worked[T]:
        """Returns what the right model makes of a request.

        Args:
            served: the champion, and the contender where a rollout goes on.
            key: whatever the same client sends each time, so that it gets the same arm; None: by chance.
            work: reads the request for a model.
            manner: how it is to be answered.

        Raises:
            Refusal: the request is wrong, or its deadline has passed before its turn came.
            whatever the champion raises.
        """
        worked = await self._answer(served, key, work, manner)
        self.traffic.add(worked.model.version, worked.model.bundle, worked.rows, worked.prediction)
        return worked

    def at_once(self, served: Served, work: Work[T], *, alone: bool) -> Worked[T] | None:
        """Returns what `answer` would for a small request of no deadline, where nothing is to be waited for; else None.

        Raises:
            Refusal: the request is wrong.
            whatever the model raises.
        """
        if served.contender is not None or self._batcher.takes(served, alone=alone):
            return None
        if self._is_timed():
            worked, seconds = _timed(work, served, None)
            self._pace.add(seconds)
        else:
            worked = _answered(work, served)
        self.traffic.add(worked.model.version, worked.model.bundle, worked.rows, worked.prediction)
        return worked

    def _is_timed(self) -> bool:
        self._turn += 1
        return self._turn % (TIMED_EVERY if self._turn > FIRST else TIMED_FIRST_EVERY) == 0

    async def _answer(self, served: Served, key: bytes | None, work: Work[T], manner: Manner) -> Worked[T]:
        contender = served.contender
        if contender is None:
            if not self._is_timed() and not manner.beside:
                return await self._ask_untimed(served, work, manner)
            worked, seconds = await self._ask(served, work, manner)
            self._pace.add(seconds)
            return worked
        if not _is_chosen(contender, key, self._chance):
            return await self._champion(served, contender, work, manner)
        check_deadline(manner.deadline)
        asked = await self._challenge(contender, work)
        if isinstance(asked, Worked):
            self._copy(Copy(served.bundle, asked.rows, asked.prediction, contender.tally))
            return asked
        worked, _ = await self._ask(served, work, manner)  # raises where the request is wrong, and blames nobody then
        if asked is Asked.FAILED:
            contender.tally.challenger(failed=True)
        return worked

    async def _ask_untimed(self, served: Served, work: Work[T], manner: Manner) -> Worked[T]:
        if not self._batcher.takes(served, alone=manner.alone):
            check_deadline(manner.deadline)
            return _answered(work, served)
        begun = work(served)
        prediction, _ = await self._batcher.predict(served, served.bundle.encode(begun.rows), manner.deadline)
        return Worked(begun.finish(prediction), begun.rows, prediction, served)

    async def _ask(self, served: Served, work: Work[T], manner: Manner) -> tuple[Worked[T], float]:
        """Asks the champion; returns also how long a thread computed for this request, or would have for it alone."""
        if manner.beside:
            return await asyncio.to_thread(_timed, work, served, manner.deadline)
        if not self._batcher.takes(served, alone=manner.alone):
            return _timed(work, served, manner.deadline)
        start = time.thread_time()
        begun = work(served)
        numbers = served.bundle.encode(begun.rows)
        reading = time.thread_time() - start
        prediction, seconds = await self._batcher.predict(served, numbers, manner.deadline)
        return Worked(begun.finish(prediction), begun.rows, prediction, served), reading + seconds

    async def _champion(self, served: Served, contender: Contender, work: Work[T], manner: Manner) -> Worked[T]:
        """Asks the champion, and counts it; in the shadow the challenger gets a copy when the answer is on its way."""
        try:
            worked, seconds = await self._ask(served, work, manner)
        except Refusal:
            raise
        except Exception:
            contender.tally.champion(failed=True)
            raise
        self._pace.add(seconds)
        contender.tally.champion(seconds)
        if contender.weight == SHADOW:
            bundle = contender.served.bundle
            self._copy(Copy(bundle, worked.rows, worked.prediction, contender.tally, contender.computing))
        return worked

    async def _challenge(self, contender: Contender, work: Work[T]) -> "Worked[T] | Asked":
        """Returns what the challenger makes of the request, or why there is nothing."""
        if not self._free.acquire(blocking=False):
            return Asked.BUSY
        running = self._pool.submit(_challenged, work, contender)
        running.add_done_callback(lambda _: self._free.release())
        try:
            worked, seconds = await asyncio.wait_for(asyncio.wrap_future(running), DEADLINE_SECONDS)
        except Exception:  # noqa: BLE001 - whatever a challenger does, its client gets the champion's answer
            return Asked.FAILED
        contender.tally.challenger(seconds)
        return worked

    def _copy(self, copy: Copy) -> None:
        """Puts a copy in the queue at the event loop's next turn: the answer goes out first."""
        asyncio.get_running_loop().call_soon(self._copies.offer, copy)


class Asked(Enum):
    """Why a challenger gave no answer: it failed, or all its threads are at work."""

    FAILED = "failed"
    BUSY = "busy"


def _is_chosen(contender: Contender, key: bytes | None, chance: random.Random) -> bool:
    """Returns whether the request is the challenger's."""
    if contender.weight == SHADOW:
        return False
    return (chance.random() if key is None else place_of(key, contender.served.version)) < contender.weight


def place_of(key: bytes, version: int) -> float:
    """Returns where in [0, 1) a key lies, evenly spread; each challenger meets other clients first."""
    digest = hashlib.blake2b(key, digest_size=8, salt=version.to_bytes(8, "big")).digest()
    return int.from_bytes(digest, "big") / 2**64


def _answered(work: Work[T], model: Served) -> Worked[T]:
    begun = work(model)
    prediction = model.bundle.predict(begun.rows)
    return Worked(begun.finish(prediction), begun.rows, prediction, model)


def _challenged(work: Work[T], contender: Contender) -> tuple[Worked[T], float]:
    with contender.computing():
        return _timed(work, contender.served, None)


def _timed(work: Work[T], model: Served, deadline: float | None) -> tuple[Worked[T], float]:
    """Returns what came of it, and how long this thread computed.

    Not how long it took: a challenger's thread waits for the interpreter where the event loop is busy, 5 ms a turn, and
    all wait for a core that a trial holds. Neither is a model's fault.
    """
    check_deadline(deadline)
    start = time.thread_time()
    worked = _answered(work, model)
    return worked, time.thread_time() - start

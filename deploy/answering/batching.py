"""Adaptive batching: requests of one model that are there at the same time share one call of it.

Nobody waits for a batch to fill. A request that is alone is answered at once; those that come while a call goes on, or
in the same turn of the event loop as another, share the next one. Whether to share at all follows from the measured
cost of a call (`CallCost`): where it is no cheaper together, each request has a call of its own. A call is no longer
than half of the latency that is aimed at, because a request may come just after one began and waits for two.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deploy.answering.call_cost import CallCost
from deploy.answering.served import Served
from deploy.bundle import Bundle, Prediction
from deploy.http.asgi import Refusal
from deploy.http.deadline import check_deadline
from deploy.monitoring.metrics import Meter
from orchestrator.domain.errors import BundleError

LATENCY_SECONDS = 0.05  # aimed at where the study file's serve.scale says nothing
MOST_ROWS = 256  # of a call, however cheap its rows are
INLINE_SECONDS = 1e-3  # a longer call has a thread, and the event loop reads and refuses requests meanwhile

Numbers = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A request that waits for its turn: its rows as the model takes them, and who is told."""

    numbers: Numbers
    deadline: float | None
    told: "asyncio.Future[tuple[Prediction, float]]"


class Batcher:
    """Asks models for requests that may share calls. Used by one event loop.

    Each model version has a queue of its own, so that no call mixes two of them.
    """

    def __init__(self, meter: Meter, latency_seconds: float | None = None) -> None:
        self._meter = meter
        self._longest = (LATENCY_SECONDS if latency_seconds is None else latency_seconds) / 2
        self._lanes: dict[tuple[int, int], _Lane] = {}
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batch")
        # A request whose body is there is answered without a pause, so that the next one, which is ready too, finds
        # nobody inside: what tells is that one was answered in this same turn of the event loop.
        self._is_crowded = False

    def takes(self, served: Served, *, alone: bool) -> bool:
        """Returns whether a request should come here; else its caller asks the model by itself, at once.

        Args:
            served: the model that is to answer.
            alone: whether no other request is in this replica.
        """
        cost = served.cost
        if cost is None:
            return False
        if cost.first > INLINE_SECONDS:
            return True
        if not cost.is_shared:
            return False
        if not alone or self._is_crowded:
            return True
        self._is_crowded = True
        asyncio.get_running_loop().call_soon(self._end_turn)
        return False

    def _end_turn(self) -> None:
        self._is_crowded = False

    async def predict(self, served: Served, numbers: Numbers, deadline: float | None) -> tuple[Prediction, float]:
        """Returns a model's answer for the rows, and how long a call for them alone would have computed.

        Args:
            served: a model whose cost is known.
            numbers: (n, w), as `Bundle.encode` gives them.
            deadline: of `time.monotonic`; None: whenever it is done.

        Raises:
            Refusal: 504 when the deadline has passed before the call.
            BundleError: the model fails on these very rows.
        """
        assert served.cost is not None
        key = (id(served.bundle), served.version)  # a lane holds its bundle: no other one can have its id
        lane = self._lanes.get(key)
        if lane is None:
            rows = min(MOST_ROWS, served.cost.rows_within(self._longest)) if served.cost.is_shared else 1
            lane = self._lanes[key] = _Lane(served.bundle, served.cost, rows)
            asyncio.get_running_loop().call_soon(self._turn, key, lane)
        told: asyncio.Future[tuple[Prediction, float]] = asyncio.get_running_loop().create_future()
        lane.waiting.append(Waiting(numbers, deadline, told))
        self._meter.queued += 1
        return await told

    def _turn(self, key: tuple[int, int], lane: "_Lane") -> None:
        """Answers those that wait in a lane, or closes it where there are none."""
        waited = len(lane.waiting)
        batch = lane.take()
        self._meter.queued -= waited - len(lane.waiting)
        if not batch:
            del self._lanes[key]
            return
        self._meter.batch(len(batch))
        loop = asyncio.get_running_loop()
        arrays = [request.numbers for request in batch]
        if lane.cost.seconds(sum(map(len, arrays))) <= INLINE_SECONDS:
            _tell(batch, ask_together(lane.bundle, lane.cost, arrays))
            loop.call_soon(self._turn, key, lane)
            return
        asked = loop.run_in_executor(self._pool, ask_together, lane.bundle, lane.cost, arrays)

        def done(answered: "asyncio.Future[list[Outcome]]") -> None:
            if not answered.cancelled():  # the loop ends
                _tell(batch, answered.result())
                self._turn(key, lane)

        asked.add_done_callback(done)


Outcome = tuple[Prediction, float] | Exception


class _Lane:
    """Those that wait for one model. It is there while a call goes on or somebody waits."""

    def __init__(self, bundle: Bundle, cost: CallCost, most_rows: int) -> None:
        self.bundle = bundle
        self.cost = cost
        self.waiting: deque[Waiting] = deque()
        self._most_rows = most_rows

    def take(self) -> list[Waiting]:
        """Returns those that share the next call: the first, and others while their rows fit."""
        taken: list[Waiting] = []
        rows = 0
        while self.waiting:
            first = self.waiting[0]
            if taken and rows + len(first.numbers) > self._most_rows:
                break
            self.waiting.popleft()
            if first.told.done():  # whoever asked has gone
                continue
            try:
                check_deadline(first.deadline)
            except Refusal as refusal:
                first.told.set_exception(refusal)
                continue
            taken.append(first)
            rows += len(first.numbers)
        return taken


def ask_together(bundle: Bundle, cost: CallCost, arrays: Sequence[Numbers]) -> list[Outcome]:
    """Returns what the model says to each array (n, w), asked in one call; where that fails, each in its own.

    With an answer comes how long a call for it alone would have computed, so that what shared calls is compared fairly
    with what did not.
    """
    if len(arrays) > 1:
        start = time.thread_time()
        try:
            together = bundle.score(np.concatenate(arrays))
            if len(together.scores) != sum(map(len, arrays)):
                raise BundleError(f"The model of {bundle.uri} gives {len(together.scores)} answers for other rows.")
        except Exception:  # noqa: BLE001 - whatever it is, it may be one request's fault: each is asked alone
            return [_ask(bundle, numbers) for numbers in arrays]
        taken = time.thread_time() - start
        pace = taken / cost.seconds(len(together.scores))
        parts = _cut(together, [len(numbers) for numbers in arrays])
        return [(part, pace * cost.seconds(len(part.scores))) for part in parts]
    return [_ask(bundle, numbers) for numbers in arrays]


def _ask(bundle: Bundle, numbers: Numbers) -> Outcome:
    start = time.thread_time()
    try:
        return bundle.score(numbers), time.thread_time() - start
    except Exception as error:  # noqa: BLE001 - told to the one that asked
        return error


def _cut(together: Prediction, sizes: Sequence[int]) -> list[Prediction]:
    parts, start = [], 0
    for size in sizes:
        end = start + size
        parts.append(Prediction(together.scores[start:end], together.labels[start:end]))
        start = end
    return parts


def _tell(batch: Sequence[Waiting], outcomes: Sequence[Outcome]) -> None:
    for request, outcome in zip(batch, outcomes, strict=True):
        if request.told.done():
            continue
        if isinstance(outcome, Exception):
            request.told.set_exception(outcome)
        else:
            request.told.set_result(outcome)

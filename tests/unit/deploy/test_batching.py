"""Requests that share a call of the model: who shares with whom, and that nobody pays for another one's fault."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from deploy.answering import batching
from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.batching import Batcher
from deploy.answering.call_cost import BATCH_ROWS, CallCost, measure_cost
from deploy.answering.served import Contender, ModelSlot, Served
from deploy.answering.tally import Tally
from deploy.bundle import Bundle, Kind, Lineage, Schema, write_bundle
from deploy.http.asgi import Refusal
from deploy.monitoring.metrics import Meter

SCHEMA = Schema(columns=("width", "height", "depth"), kind=Kind.REGRESSION)
SHARED = CallCost(100e-6, 1e-6)  # of a model whose rows are nearly free
SEPARATE = CallCost(20e-6, 19e-6)  # of one that gains nothing
SLOW = CallCost(batching.INLINE_SECONDS * 2, 1e-6)
BAD = -1.0  # a first cell on which the model fails


def summing_model() -> bytes:
    """Returns a model that answers the sum of each row, and fails where a first cell is below zero."""
    constants = {
        "zero": np.zeros((1, 1), dtype=np.float32),
        "first": np.asarray([0], dtype=np.int64),
        "axis": np.asarray([1], dtype=np.int64),
        "limit": np.asarray(0.0, dtype=np.float32),
        "outside": np.asarray(100, dtype=np.int64),
        "flat": np.asarray([-1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["rows", "first"], ["cell"], axis=1),
        helper.make_node("Less", ["cell", "limit"], ["is_bad"]),
        helper.make_node("Cast", ["is_bad"], ["bad"], to=TensorProto.INT64),
        helper.make_node("Mul", ["bad", "outside"], ["places"]),
        helper.make_node("Reshape", ["places", "flat"], ["index"]),
        helper.make_node("Gather", ["zero", "index"], ["nothing"], axis=0),
        helper.make_node("ReduceSum", ["rows", "axis"], ["sum"]),
        helper.make_node("Add", ["sum", "nothing"], ["value"]),
    ]
    graph = helper.make_graph(
        nodes,
        "summing",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    )


@pytest.fixture
def summing(tmp_path: Any) -> Bundle:
    return Bundle.open(
        write_bundle(
            tmp_path / "bundles" / "summing",
            onnx_model=summing_model(),
            schema=SCHEMA,
            lineage=Lineage("sums", 1, 1),
            sample_rows=np.ones((4, 3), dtype=np.float32),
        )
    )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> list[tuple[int, str]]:
    """The calls of this test's models: how many rows each had, and in which thread it was.

    Challengers of other tests, which hang on purpose, may still be at it in threads of their own.
    """
    made: list[tuple[int, str]] = []
    real = Bundle.score

    def score(self: Bundle, numbers: Any) -> Any:
        if self.uri.startswith(tmp_path.as_uri()):
            made.append((len(numbers), threading.current_thread().name))
        return real(self, numbers)

    monkeypatch.setattr(Bundle, "score", score)
    return made


def app_of(bundle: Bundle, cost: CallCost | None, contender: Contender | None = None, **settings: Any) -> EndpointApp:
    slot = ModelSlot()
    slot.put(Served(bundle, 3, 3, contender, cost))
    return EndpointApp(AppSettings("sums", "secret", **settings), slot)


def ask_at_once(app: EndpointApp, bodies: list[Any], **headers: str) -> list[httpx.Response]:
    async def send() -> list[httpx.Response]:
        given = {"authorization": "Bearer secret", **{name.replace("_", "-"): value for name, value in headers.items()}}
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://endpoint", headers=given
        ) as client:
            return list(await asyncio.gather(*(client.post("/predict", json=body) for body in bodies)))

    return asyncio.run(send())


def predictions(answers: list[httpx.Response]) -> list[Any]:
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json()["predictions"] for answer in answers]


@pytest.mark.parametrize("cost", [SHARED, SLOW])
def test_requests_at_once_share_a_call_and_each_gets_its_own_answer(summing, calls, cost):
    app = app_of(summing, cost)
    bodies = [[[float(n), 1, 1]] * (1 + n % 3) for n in range(24)]
    answers = ask_at_once(app, bodies)
    assert predictions(answers) == [[n + 2.0] * (1 + n % 3) for n in range(24)]
    assert len(calls) < 24
    assert sum(rows for rows, _ in calls) == sum(len(body) for body in bodies)
    assert len({answer.json()["id"] for answer in answers}) == 24
    assert {answer.headers["x-model-version"] for answer in answers} == {"3"}
    assert app.counts.answered == 24
    assert 0 < app.meter.reading()["batches"][1] <= 24
    assert app.meter.queued == 0
    assert app.admission.inside == 0


@pytest.mark.parametrize("cost", [None, SEPARATE])
def test_a_model_that_gains_nothing_is_called_for_each_request(summing, calls, cost):
    assert len(predictions(ask_at_once(app_of(summing, cost), [[[1, 1, 1]]] * 10))) == 10
    assert calls == [(1, "MainThread")] * 10


def test_a_request_that_is_alone_waits_for_nobody(summing, calls):
    app = app_of(summing, SHARED)
    for _ in range(3):
        assert predictions(ask_at_once(app, [[[1, 2, 3]]])) == [[6.0]]
    assert calls == [(1, "MainThread")] * 3
    assert app.meter.reading()["batches"][1] == 0


def test_a_slow_model_leaves_the_event_loop_to_others(summing, calls):
    predictions(ask_at_once(app_of(summing, SLOW), [[[1, 1, 1]]] * 3))
    assert {name for _, name in calls} == {"batch_0"}


@pytest.mark.parametrize("cost", [SHARED, SLOW])
def test_a_request_on_which_the_model_fails_costs_its_neighbours_nothing(summing, calls, cost):
    bodies = [[[BAD if n == 5 else float(n), 1, 1]] for n in range(12)]
    app = app_of(summing, cost)
    answers = ask_at_once(app, bodies)
    assert [answer.status_code for answer in answers] == [500 if n == 5 else 200 for n in range(12)]
    assert [answer.json()["predictions"] for n, answer in enumerate(answers) if n != 5] == [
        [n + 2.0] for n in range(12) if n != 5
    ]
    assert (app.counts.answered, app.counts.failed) == (11, 1)


def test_a_wrong_request_never_gets_as_far(summing, calls):
    answers = ask_at_once(app_of(summing, SHARED), [[[1, 1, 1]], [[1, 1]], [[1, "x", 1]], [[2, 1, 1]]])
    assert [answer.status_code for answer in answers] == [200, 422, 422, 200]
    assert sum(rows for rows, _ in calls) == 2


def test_a_call_holds_no_more_rows_than_its_latency_allows(summing, calls):
    cost = CallCost(1e-3, 0.5e-3)  # 10 rows take 5.5 ms
    predictions(ask_at_once(app_of(summing, cost, latency_seconds=0.011), [[[1, 1, 1]]] * 40))
    assert max(rows for rows, _ in calls) == 10


def test_a_call_holds_no_more_rows_than_are_allowed(summing, calls):
    predictions(ask_at_once(app_of(summing, SHARED), [[[1, 1, 1]] * 100] * 6))
    assert max(rows for rows, _ in calls) <= batching.MOST_ROWS


def test_no_call_mixes_two_versions(summing, make_bundle, calls):
    other = Bundle.open(make_bundle())

    async def ask() -> list[Any]:
        batcher = Batcher(Meter())
        models = [
            Served(summing, 1, 1, cost=SHARED),
            Served(summing, 2, 2, cost=SHARED),
            Served(other, 3, 3, cost=SHARED),
        ]
        rows = np.ones((1, 3), dtype=np.float32)
        asked = [batcher.predict(models[n % 3], rows, None) for n in range(30)]
        return [prediction.labels for prediction, _ in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == [(), (), ("dog",)] * 10
    assert [rows for rows, _ in calls] == [10, 10, 10]


def test_in_a_rollout_only_the_champion_s_requests_share_calls(summing, make_bundle, calls):
    tally = Tally(10.0)
    contender = Contender(Served(summing, 4, 4, cost=SHARED), 4, 0.5, tally)
    app = app_of(summing, SHARED, contender)
    answers = ask_at_once(app, [{"rows": [[1, 1, 1]], "key": f"client-{n}"} for n in range(40)])
    assert predictions(answers) == [[3.0]] * 40
    by_challenger = sum(answer.json()["version"] == "4" for answer in answers)
    assert 0 < by_challenger < 40
    evidence = tally.evidence
    assert evidence.challenger.asked == by_challenger
    assert evidence.champion.asked + evidence.challenger.asked <= 40  # a busy challenger's requests count for nobody
    assert all(rows == 1 for rows, name in calls if name.startswith("challenger"))


def test_a_swap_between_two_calls_changes_no_request_that_waits(summing, calls):
    app = app_of(summing, SLOW)

    async def ask() -> list[int]:
        rows = np.ones((1, 3), dtype=np.float32)
        first = asyncio.ensure_future(app.batcher.predict(app.slot.served, rows, None))
        await asyncio.sleep(0)
        app.slot.put(Served(summing, 9, 9, cost=SLOW))
        second = asyncio.ensure_future(app.batcher.predict(app.slot.served, rows, None))
        await asyncio.gather(first, second)
        return [rows for rows, _ in calls]

    assert asyncio.run(ask()) == [1, 1]


def test_a_request_whose_time_is_over_when_its_turn_comes_is_not_computed(summing, calls):
    async def ask() -> list[Any]:
        batcher, model = Batcher(Meter()), Served(summing, 1, 1, cost=SHARED)
        rows = np.ones((1, 3), dtype=np.float32)
        deadlines = [None, time.monotonic() - 1.0, time.monotonic() + 60.0]
        return await asyncio.gather(*(batcher.predict(model, rows, d) for d in deadlines), return_exceptions=True)

    first, late, last = asyncio.run(ask())
    assert isinstance(late, Refusal)
    assert late.status == 504
    assert first[0].scores.tolist() == last[0].scores.tolist() == [3.0]
    assert [rows for rows, _ in calls] == [2]


def test_nothing_is_computed_for_whoever_has_gone(summing, calls):
    async def ask() -> Any:
        batcher, model = Batcher(Meter()), Served(summing, 1, 1, cost=SHARED)
        rows = np.ones((1, 3), dtype=np.float32)
        asked = [asyncio.ensure_future(batcher.predict(model, rows, None)) for _ in range(3)]
        await asyncio.sleep(0)
        asked[1].cancel()
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(ask())
    assert isinstance(answers[1], asyncio.CancelledError)
    assert [rows for rows, _ in calls] == [2]


def test_the_time_of_a_shared_call_is_told_as_if_it_were_alone(summing):
    arrays = [np.ones((1, 3), dtype=np.float32)] * 10
    outcomes = batching.ask_together(summing, CallCost(1e-3, 1e-4), arrays)
    seconds = [outcome[1] for outcome in outcomes if not isinstance(outcome, Exception)]
    assert len(set(seconds)) == 1
    assert sum(seconds) > seconds[0] * 9  # each is told more than its tenth


def test_a_cost_is_measured_and_says_what_a_call_may_hold(summing):
    cost = measure_cost(summing)
    assert 0 < cost.first < 1.0
    assert 0 <= cost.further <= cost.first * BATCH_ROWS
    assert CallCost(1e-3, 1e-4).rows_within(2e-3) == 11
    assert CallCost(1e-3, 0.0).rows_within(2e-3) > 1000
    assert CallCost(1e-3, 1e-4).rows_within(1e-4) == 1
    assert CallCost(1e-3, 1e-4).seconds(11) == pytest.approx(2e-3)
    assert [SHARED.is_shared, SEPARATE.is_shared, SLOW.is_shared] == [True, False, True]


def test_a_replica_knows_the_cost_of_its_model(make_bundle: Callable[..., Any], tmp_path):
    from deploy.access.tokens import ensure_token
    from deploy.resident import Means, Resident
    from deploy.rollout.versions import Routing

    ensure_token(tmp_path / "runs", "digits")
    resident = Resident("digits", str(tmp_path / "runs"), Means(latency_seconds=0.25))
    resident.adopt(Routing(1, 1, str(make_bundle())))
    served = resident.app.slot.served
    assert served is not None
    assert served.cost is not None
    assert served.cost.first > 0
    assert resident.app.batcher._longest == 0.125
    resident.end(wait=True)

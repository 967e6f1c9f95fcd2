"""Two models beside each other: who is asked, what is counted, and what a client sees of a bad challenger."""

import asyncio
import json
import time
from dataclasses import replace

import httpx
import numpy as np
import pytest

from deploy.answering import arms
from deploy.answering.answer_id import AnswerIds, differ, first_differs, parse_answer_id
from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.arms import place_of
from deploy.answering.feedback import parse_feedback
from deploy.answering.served import Contender, ModelSlot, Served
from deploy.answering.tally import PACE_LEAST, Pace, Tally
from deploy.bundle import Bundle, Kind, Lineage, Prediction, Schema, write_bundle
from deploy.http.asgi import Refusal

SCHEMA = Schema(columns=("width", "height", "depth"), kind=Kind.CLASSIFICATION, labels=("cat", "dog"))
GOOD, BAD = [1.0, 2.0, 3.0], [0.1, 2.0, 3.0]


def wait_until(holds, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


@pytest.fixture
def bundles(tmp_path, make_bundle, brittle_model):
    """A champion that says dog, and a challenger that says cat and fails below 0.2."""
    challenger = write_bundle(
        tmp_path / "bundles" / "brittle",
        onnx_model=brittle_model(3, [0.75, 0.25], 0.2),
        schema=SCHEMA,
        lineage=Lineage("digits", 34, 27),
        sample_rows=np.ones((4, 3), dtype=np.float32),
    )
    return Bundle.open(make_bundle()), Bundle.open(challenger)


class Endpoint:
    """An application with both models, asked without a server."""

    def __init__(self, bundles, weight: float, slow_seconds: float = 10.0) -> None:
        champion, challenger = bundles
        self.tally = Tally(slow_seconds)
        contender = Contender(Served(challenger, 2, 5), 5, weight, self.tally)
        slot = ModelSlot()
        slot.put(Served(champion, 1, 5, contender))
        self.app = EndpointApp(AppSettings("digits", "secret"), slot)

    def ask(self, *bodies, path="/predict", headers=None):
        async def send():
            transport = httpx.ASGITransport(self.app)
            given = {"authorization": "Bearer secret", **(headers or {})}
            async with httpx.AsyncClient(transport=transport, base_url="http://endpoint", headers=given) as client:
                return [await client.post(path, json=body) for body in bodies]

        return asyncio.run(send())


def versions(answers):
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.headers["x-model-version"] == answer.json()["version"] for answer in answers)
    return [answer.json()["version"] for answer in answers]


def test_a_key_goes_to_the_same_arm_each_time(bundles):
    endpoint = Endpoint(bundles, 0.5)
    keys = [f"client-{number}" for number in range(40)]
    first = versions(endpoint.ask(*({"rows": [GOOD], "key": key} for key in keys)))
    assert first == versions(endpoint.ask(*({"rows": [GOOD], "key": key} for key in keys)))
    assert first == [versions(endpoint.ask([GOOD], headers={"x-routing-key": key}))[0] for key in keys]
    assert set(first) == {"1", "2"}


def test_a_client_stays_with_the_challenger_when_its_share_grows():
    places = [place_of(f"client-{number}".encode(), 2) for number in range(4000)]
    assert all(0 <= place < 1 for place in places)
    assert sum(place < 0.05 for place in places) / 4000 == pytest.approx(0.05, abs=0.02)
    assert places != [place_of(f"client-{number}".encode(), 3) for number in range(4000)]


def test_without_a_key_the_share_is_by_chance(bundles):
    given = versions(Endpoint(bundles, 0.5).ask(*[[GOOD]] * 60))
    assert 10 < given.count("2") < 50  # p below 1e-6 otherwise


def test_a_failing_challenger_costs_no_client_an_error(bundles):
    endpoint = Endpoint(bundles, 1.0)
    answers = endpoint.ask(*[[GOOD], [BAD]] * 10)
    assert versions(answers) == ["2", "1"] * 10
    assert [answer.json()["predictions"] for answer in answers] == [["cat"], ["dog"]] * 10
    assert (endpoint.tally.evidence.challenger.asked, endpoint.tally.evidence.challenger.failed) == (20, 10)
    assert endpoint.tally.evidence.champion.asked == 0  # what it was asked instead says nothing of its own share
    assert endpoint.app.counts.failed == 0


def test_a_hanging_challenger_costs_its_deadline_and_no_more_threads_than_it_has(bundles, monkeypatch):
    monkeypatch.setattr(arms, "DEADLINE_SECONDS", 0.05)
    real = Bundle.predict

    def hang(self, rows):
        if self is bundles[1]:
            time.sleep(0.5)
        return real(self, rows)

    monkeypatch.setattr(Bundle, "predict", hang)
    endpoint = Endpoint(bundles, 1.0)
    assert versions(endpoint.ask(*[[GOOD]] * 8)) == ["1"] * 8
    challenger = endpoint.tally.evidence.challenger
    assert challenger.failed == challenger.asked >= arms.THREADS


def test_a_wrong_request_is_the_clients_fault_and_counts_for_nobody(bundles):
    endpoint = Endpoint(bundles, 1.0)
    (answer,) = endpoint.ask([[1.0]])
    assert answer.status_code == 422
    assert endpoint.tally.evidence == Tally(1.0).evidence


def test_a_version_that_is_named_answers_itself(bundles):
    body = {"inputs": [{"name": "rows", "shape": [1, 3], "datatype": "FP32", "data": GOOD}]}
    endpoint = Endpoint(bundles, 1.0)
    (answer,) = endpoint.ask(body, path="/v2/models/digits/versions/1/infer")
    assert answer.json()["model_version"] == "1"
    (answer,) = endpoint.ask(body, path="/v2/models/digits/infer")
    assert (answer.json()["model_version"], answer.headers["x-trial"]) == ("2", "34")


def test_the_shadow_is_compared_and_never_returned(bundles):
    endpoint = Endpoint(bundles, 0.0)
    assert versions(endpoint.ask(*[[GOOD]] * 4, [BAD])) == ["1"] * 5
    wait_until(lambda: endpoint.tally.evidence.challenger.asked == 5)
    evidence = endpoint.tally.evidence
    assert (evidence.challenger.failed, evidence.compared, evidence.differed) == (1, 4, 4)
    assert evidence.champion.asked == 5


def test_in_the_canary_the_champion_is_asked_too_and_not_blamed(bundles):
    endpoint = Endpoint(bundles, 1.0)
    endpoint.ask(*[[GOOD]] * 3)
    wait_until(lambda: endpoint.tally.evidence.compared == 3)
    evidence = endpoint.tally.evidence
    assert (evidence.differed, evidence.champion.asked, evidence.challenger.asked) == (3, 0, 3)


def test_slow_answers_are_counted(bundles):
    endpoint = Endpoint(bundles, 1.0, slow_seconds=0.0)
    endpoint.ask([GOOD])
    assert endpoint.tally.evidence.challenger.slow == 1


def test_the_usual_time_is_what_nine_of_ten_take():
    pace = Pace()
    for _ in range(PACE_LEAST - 1):
        pace.add(0.001)
    assert pace.usual_seconds is None
    pace.add(5.0)
    assert pace.usual_seconds == pytest.approx(0.001, rel=0.1)


# --- ids and labels ------------------------------------------------------------------------------------------------


def prediction(*labels, scores=None):
    return Prediction(np.zeros((len(labels), 2), np.float32) if scores is None else np.float32(scores), labels)


def test_an_answer_says_its_id_and_the_id_says_the_answer(bundles):
    (answer,) = Endpoint(bundles, 1.0).ask([GOOD, GOOD])
    found = parse_answer_id(answer.json()["id"])
    assert answer.headers["x-answer-id"] == answer.json()["id"]
    assert (found.version, found.rollout, found.predictions) == (2, 5, ("cat", "cat"))


def test_no_two_answers_have_the_same_id():
    made, other = AnswerIds(), AnswerIds()
    assert len({ids.make(1, 0, prediction("a")) for ids in (made, other) for _ in range(50)}) == 100


def test_a_long_answer_has_a_short_id():
    assert len(AnswerIds().make(1, 0, prediction(*["a label"] * 4096))) < 1000


@pytest.mark.parametrize("text", ["", "x", "W10", "é", "A" * 99, "!!!!"])
def test_a_text_that_is_no_id_is_known(text):
    assert parse_answer_id(text) is None


@pytest.mark.parametrize(
    ("said", "true", "wrong"),
    [
        ("a", "b", True),
        ("a", "a", False),
        (3, "3", False),
        (True, False, True),
        (1.0, 1.05, False),
        (1.0, 1.2, True),
        (0.0, 0, False),
        ([1.0, 2.0], [1.0, 3.0], True),
        ([1.0, 2.0], [1.0, 2.1], False),
    ],
)
def test_a_prediction_is_wrong_where_it_is_another_class_or_a_tenth_away(said, true, wrong):
    assert differ(said, true) is wrong


def test_models_are_compared_by_the_first_row():
    assert first_differs(prediction("a", "b"), prediction("b", "b"))
    assert not first_differs(prediction("a", "b"), prediction("a", "c"))
    assert first_differs(prediction(scores=[1.0, 2.0]), prediction(scores=[1.5, 2.0]))


def test_labels_are_posted_by_id_and_wait_for_the_endpoint_actor(bundles):
    endpoint = Endpoint(bundles, 1.0)
    one, two = (answer.json()["id"] for answer in endpoint.ask([GOOD], [GOOD, GOOD]))
    given = [{"id": one, "label": "dog"}, {"id": two, "label": ["cat", "dog"]}]
    (answer,) = endpoint.ask(given, path="/feedback")
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
    assert [(label.judged, label.wrong) for label in endpoint.app.feedback.take()] == [(1, 1), (2, 1)]
    assert endpoint.app.feedback.take() == []


ID = AnswerIds().make(1, 0, prediction("cat", "dog"))


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([], "no labels"),
        (3, "not given as it has to be"),
        ({"id": ID}, "not given as it has to be"),
        ({"id": ID, "label": "cat", "score": 1}, "not given as it has to be"),
        ({"id": ID[:-2] + "xx", "label": "cat"}, "is of no answer"),
        ({"id": 7, "label": "cat"}, "is of no answer"),
        ({"id": ID, "label": "cat"}, "has 2 rows"),
        ({"id": ID, "label": []}, "has 2 rows"),
        ({"id": ID, "label": [None, "cat"]}, "none of them null"),
        ({"id": ID, "label": ["cat", "dog", "cat"]}, "has 2 rows"),
    ],
)
def test_a_wrong_label_is_told_what_is_wrong(given, reason):
    with pytest.raises(Refusal, match=reason):
        parse_feedback(given)


@pytest.mark.parametrize("key", [True, 1.5, None, [], "x" * 2000])
def test_a_key_that_is_none_is_refused(bundles, key):
    (answer,) = Endpoint(bundles, 1.0).ask({"rows": [GOOD], "key": key})
    assert answer.status_code == 422
    assert "key" in json.dumps(answer.json())


def test_feedback_needs_the_token(bundles):
    (answer,) = Endpoint(bundles, 1.0).ask({}, path="/feedback", headers={"authorization": "Bearer wrong"})
    assert answer.status_code == 401


def test_a_model_without_a_contender_counts_nothing(bundles):
    served = Served(bundles[0], 1, 1)
    assert served.rollout == 0
    assert replace(served, contender=None) == served

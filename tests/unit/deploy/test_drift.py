"""Profiles of training data, and what is said of requests that are compared with them."""

import threading

import numpy as np
import pytest

from deploy.bundle import Column, ColumnKind, Distribution, Kind, Prediction, Profile, Schema, Table
from deploy.monitoring.drift import Count, DriftBook, Verdict, chi_squared_tail, drift_of
from deploy.monitoring.traffic import KEPT, ROWS, Traffic, TrafficCounts
from orchestrator.domain.errors import BundleError

SCHEMA = Schema(columns=("width", "height"), kind=Kind.CLASSIFICATION, labels=("cat", "dog"))
MIXED = (Column("age"), Column("plan", ColumnKind.CATEGORY, nullable=True))


def normal(seed: int, rows: int, shift: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(rows, 2)) + shift).astype(np.float32)


def scores_of(rows: np.ndarray) -> np.ndarray:
    surely = 1 / (1 + np.exp(-rows.sum(axis=1)))
    return np.stack([1 - surely, surely], axis=1)


def profile() -> Profile:
    return Profile.of(SCHEMA, normal(0, 2000), scores_of(normal(1, 500)))


def looked_at(seen: np.ndarray) -> list[int]:
    return profile().count(seen).tolist()


def predicted(seen: np.ndarray) -> list[int]:
    labels = [SCHEMA.labels[index] for index in scores_of(seen).argmax(axis=1)]
    return profile().count_predictions(labels, scores_of(seen)).tolist()


def test_a_profile_reads_back_as_it_was_written() -> None:
    assert Profile.from_bytes(profile().to_bytes()) == profile()
    with pytest.raises(BundleError, match="cannot be read"):
        Profile.from_bytes(b'{"rows": 3}')


def test_the_bins_of_a_number_hold_a_tenth_each_and_missing_cells_apart() -> None:
    values = np.append(np.arange(1000, dtype=np.float32), [np.nan] * 10)
    found = Distribution.of_numbers("width", values)
    assert found.bins == 11
    assert np.allclose(found.shares[:-1], 0.1 * 1000 / 1010, atol=1e-3)
    assert found.shares[-1] == pytest.approx(10 / 1010)


def test_a_constant_column_has_one_value_and_anything_else_is_beside_it() -> None:
    found = Distribution.of_numbers("zero", np.zeros(100, dtype=np.float32))
    assert found.count(np.float32([0.0, 1.0, np.nan])).tolist() == [1, 1, 1]
    assert found.shares == (1.0, 0.0, 0.0)


def test_levels_that_training_never_saw_are_counted_together() -> None:
    found = Distribution.of_texts("plan", ["basic", "basic", "gold", None])
    assert found.levels == ("basic", "gold")
    assert found.count_texts(["gold", "new", "newer", None]).tolist() == [0, 1, 2, 1]


def test_a_table_is_counted_by_the_texts_that_its_codes_stand_for() -> None:
    trained = Table.of_rows(MIXED, [{"age": age, "plan": "gold" if age % 4 else None} for age in range(40)])
    found = Profile.of(Schema(("age", "plan"), Kind.REGRESSION, raw=MIXED), trained, np.arange(40, dtype=np.float32))
    asked = Table.of_rows(MIXED, [[1, "other"], [2, "gold"], [3, None]])
    assert found.count(asked)[-3:].tolist() == [1, 1, 1]
    assert found.prediction.bins == 11
    assert found.count_predictions((), np.float32([[-1.0, 5.0], [99.0, 5.0]]))[[0, 9]].tolist() == [1, 1]


def test_requests_like_the_training_data_are_steady() -> None:
    seen = normal(5, 3000)
    found = drift_of(profile(), 3000, looked_at(seen), predicted(seen))
    assert found.drifted == ()
    assert {column.verdict for column in found.columns} == {Verdict.STEADY}


def test_a_column_that_moved_has_drifted_and_comes_first() -> None:
    seen = normal(5, 500)
    seen[:, 1] += 2.0
    found = drift_of(profile(), 500, looked_at(seen), predicted(seen))
    assert found.columns[0].name == "height"
    assert set(found.drifted) == {"prediction", "height"}
    assert found.columns[0].ks > 0.5
    assert found.to_dict()["columns"][0]["verdict"] == "drifted"


def test_cells_that_go_missing_are_drift() -> None:
    seen = normal(5, 500)
    seen[:250, 0] = np.nan
    found = drift_of(profile(), 500, looked_at(seen), predicted(normal(5, 500)))
    assert found.drifted == ("width",)
    assert (found.columns[0].missing_then, found.columns[0].missing_now) == (0.0, 0.5)


def test_few_rows_say_nothing() -> None:
    seen = normal(5, 99, shift=5.0)
    found = drift_of(profile(), 99, looked_at(seen), predicted(seen))
    assert found.drifted == ()
    assert {column.verdict for column in found.columns} == {Verdict.UNKNOWN}


@pytest.mark.parametrize(("freedom", "exact"), [(1, 10.828), (2, 13.816), (10, 29.588), (20, 45.315)])
def test_the_tail_is_that_of_the_table_or_more(freedom: int, exact: float) -> None:
    assert 0.95e-3 < chi_squared_tail(exact, freedom) < 2e-3


def test_a_book_adds_up_replicas_and_counts_what_is_said_twice_once() -> None:
    book, seen = DriftBook(), normal(5, 200)
    said = Count(3, 200, tuple(looked_at(seen)), tuple(predicted(seen)))
    for replica in ("a", "a", "b"):
        book.take(replica, said)
    book.take("c", Count(2, 900, said.columns, said.prediction))
    assert book.of(3, profile()).rows == 400
    assert book.of(4, profile()).rows == 0


class Profiled:
    """As much of a bundle as counting needs."""

    profile = profile()


def prediction_of(rows: np.ndarray) -> Prediction:
    scores = scores_of(rows)
    return Prediction(scores, tuple(SCHEMA.labels[index] for index in scores.argmax(axis=1)))


def test_of_many_requests_a_few_are_kept_each_with_the_same_chance() -> None:
    traffic, kept = Traffic(), np.zeros(KEPT * 4)
    for _ in range(200):
        for number in range(KEPT * 4):
            traffic.add(number, Profiled(), normal(0, 1), Prediction(np.zeros((1, 2))))  # type: ignore[arg-type]
        taken = traffic.take()
        assert len(taken) == KEPT
        for seen in taken:
            kept[seen.version] += 1
    assert traffic.take() == []
    assert 20 < kept.min() <= kept.max() < 90  # 50 expected, 6 the deviation: one in 10^5 runs is outside


def test_of_a_large_request_few_rows_are_kept() -> None:
    traffic, counts = Traffic(), TrafficCounts(1)
    rows = normal(0, 1000)
    traffic.add(1, Profiled(), rows, prediction_of(rows))  # type: ignore[arg-type]
    (seen,) = traffic.take()
    assert len(seen.rows) == ROWS
    assert seen.rows.base is None
    counts.add(seen)
    assert counts.rows == ROWS == counts.prediction.sum()


def test_taking_while_requests_come_loses_no_request_to_an_error() -> None:
    traffic, stopping, failed = Traffic(), threading.Event(), []

    def ask() -> None:
        try:
            while not stopping.is_set():
                traffic.add(1, Profiled(), normal(0, 1), Prediction(np.zeros((1, 2))))  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - what is looked for
            failed.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    for _ in range(20_000):
        traffic.take()
    stopping.set()
    asker.join()
    assert failed == []

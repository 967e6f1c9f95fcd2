"""A ranking is a sorted list, whatever comes and goes."""

from bisect import bisect_left

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain import ranking as module
from orchestrator.domain.ranking import Ranking

entries = st.tuples(st.sampled_from([-1.5, 0.0, 2.0, float("inf")]), st.integers(0, 60))


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    monkeypatch.setattr(module, "LONGEST", 4)


@settings(max_examples=300)
@given(st.lists(entries, unique=True, max_size=40), st.lists(entries, max_size=80))
def test_it_is_a_sorted_list(first, comings_and_goings):
    ranking, model = Ranking(first), sorted(first)
    for entry in comings_and_goings:
        if entry in model:
            ranking.remove(entry)
            model.remove(entry)
        else:
            ranking.add(entry)
            model = sorted([*model, entry])
        assert list(ranking) == model
        assert len(ranking) == len(model)
        assert ranking.first == (model[0] if model else None)
        assert [ranking.position(each) for each in model] == list(range(len(model)))
        assert ranking.position((0.5, 0)) == bisect_left(model, (0.5, 0))
        assert ranking == Ranking(model)


def test_no_piece_grows_without_bound():
    ranking = Ranking()
    for number in range(100):
        ranking.add((number * 37 % 100, number))
    assert max(map(len, ranking._pieces)) <= 4
    assert all(piece for piece in ranking._pieces)

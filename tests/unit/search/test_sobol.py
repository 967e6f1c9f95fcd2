"""The Sobol' sequence over a space: even, the same everywhere, and fair to every value."""

from collections import Counter

import numpy as np
import pytest
from scipy.stats import qmc

from orchestrator.domain.space import Choice, Float, Int, Space
from orchestrator.search import make_suggester

SQUARE = Space({"x": Float(0.0, 1.0), "y": Float(1e-4, 1.0, log=True), "z": Float(0.0, 1.0)})


def cloud(engine, seed, count=64):
    """Returns the first suggestions as shares of their own scales: (count, 3)."""
    suggester = make_suggester(engine, SQUARE, seed)
    found = [suggester.suggest(trial) for trial in range(count)]
    return np.array([[c["x"], 1 + np.log10(c["y"]) / 4, c["z"]] for c in found])


@pytest.mark.parametrize("count", [20, 64, 100])
def test_it_covers_the_space_more_evenly_than_random_points_for_every_seed(count):
    sobol = [qmc.discrepancy(cloud("sobol", seed, count)) for seed in range(10)]
    random = [qmc.discrepancy(cloud("random", seed, count)) for seed in range(10)]
    assert max(sobol) < min(random)


def test_a_trial_has_its_point_in_whatever_order_they_are_asked_for():
    forwards, backwards = make_suggester("sobol", SQUARE, 5), make_suggester("sobol", SQUARE, 5)
    assert [forwards.suggest(n) for n in range(20)] == [backwards.suggest(n) for n in reversed(range(20))][::-1]
    assert make_suggester("sobol", SQUARE, 5).suggest(100_000) == forwards.suggest(100_000)


def test_two_seeds_give_two_sequences():
    assert make_suggester("sobol", SQUARE, 1).suggest(0) != make_suggester("sobol", SQUARE, 2).suggest(0)


def test_every_value_of_a_choice_and_of_a_whole_range_gets_an_equal_part():
    space = Space({"kind": Choice(["a", "b", "c", "d"]), "n": Int(1, 4), "s": Float(0.0, 0.75, step=0.25)})
    suggester = make_suggester("sobol", space, 0)
    found = [suggester.suggest(trial) for trial in range(64)]
    for name in space.parameters:
        assert set(Counter(configuration[name] for configuration in found).values()) == {16}


def test_a_conditional_parameter_and_a_constant_take_no_evenness_from_the_others():
    space = Space({"kind": Choice(["a", "b"]), "only": Choice([7]), "x": Float(0.0, 1.0, when={"kind": "b"})})
    suggester = make_suggester("sobol", space, 0)
    found = [suggester.suggest(trial) for trial in range(64)]
    assert Counter(c["kind"] for c in found) == {"a": 32, "b": 32}
    xs = sorted(c["x"] for c in found if c["kind"] == "b")
    assert max(b - a for a, b in zip([0.0, *xs], [*xs, 1.0], strict=True)) < 0.15

"""Laws of every grid: each configuration exactly once, valid, none left out, and none again in a wider space."""

import itertools
import math
import random

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from spaces import choices, conditions

from orchestrator.domain.errors import InvalidSpecification
from orchestrator.domain.grid import Grid
from orchestrator.domain.space import Choice, Float, Int, Space
from orchestrator.search import GridSearch

relaxed = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
NAMES = ["lr", "layers", "optimizer", "momentum"]
MOST = 3000  # configurations that a test walks through


@st.composite
def floats(draw, when=None):
    low = draw(st.floats(-10, 10))
    kind = draw(st.sampled_from(["plain", "log", "step"]))
    if kind == "log":
        return Float(abs(low) + 1e-3, (abs(low) + 1e-3) * draw(st.floats(1, 1e6)), log=True, when=when)
    step = draw(st.floats(0.01, 3))
    high = low + step * draw(st.floats(0, 6))
    return Float(low, high, step=step if kind == "step" else None, when=when)


@st.composite
def ints(draw, when=None):
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -9, 9))
    step = None if log else draw(st.none() | st.integers(1, 3))
    return Int(low, low + draw(st.integers(0, 6)), log=log, step=step, when=when)


@st.composite
def small_spaces(draw):
    parameters = {}
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=4, unique=True)):
        kind = draw(st.sampled_from([floats, ints, choices]))
        parameters[name] = draw(kind(when=draw(conditions(parameters))))
    return Space(parameters)


points = st.integers(1, 4)


def walk(search, first=0, most=MOST):
    """Begins trials until nothing is left; returns the configurations."""
    suggested = []
    while not search.is_exhausted():
        assume(len(suggested) < most)
        suggested.append(search.suggest(first + len(suggested)))
        search.started(first + len(suggested) - 1, suggested[-1])
    return suggested


def plain(configuration):
    return tuple((name, type(value) is bool, value) for name, value in sorted(configuration.items()))


def values_of(parameter, count):
    """The axis of one parameter, from its meaning: a second implementation, of linear grids only."""
    if isinstance(parameter, Choice):
        return list(parameter.values)
    if isinstance(parameter, Int):
        return list(range(parameter.low, parameter.high + 1, parameter.step or 1))
    if parameter.step is not None:
        # a bound that misses its point by a rounding error stands for that point
        end = parameter.high + (parameter.step / 2 if parameter.contains(parameter.high) else 0)
        return [min(parameter.high, v) for k in range(100) if (v := parameter.low + k * parameter.step) <= end]
    return None


@relaxed
@given(small_spaces(), points)
def test_every_configuration_is_valid_and_comes_exactly_once(space, count):
    suggested = walk(GridSearch(space, count))
    for configuration in suggested:
        space.validate(configuration)
    assert len({plain(configuration) for configuration in suggested}) == len(suggested) > 0


@relaxed
@given(small_spaces(), points)
@example(Space({"x": Float(0.0, 1.9999999999999991, step=1.0)}), 1)
def test_none_is_left_out_conditional_parameters_included(space, count):
    axes = {name: values_of(parameter, count) for name, parameter in space.parameters.items()}
    assume(all(axis is not None for axis in axes.values()))
    assume(not any(isinstance(p, Int) and p.log for p in space.parameters.values()))
    assume(math.prod(len(axis) for axis in axes.values()) < MOST)
    expected = set()
    for combination in itertools.product(*axes.values()):  # everything, then without what has no place
        whole = dict(zip(axes, combination, strict=True))
        known = {}
        for name in space.parameters:
            if space.is_active(name, known):
                known[name] = whole[name]
        expected.add(plain(known))
    assert {plain(configuration) for configuration in walk(GridSearch(space, count))} == expected


@relaxed
@given(floats(), st.randoms(use_true_random=False))
@example(Float(0.0, 1.9999999999999991, step=1.0), random.Random(0))
@example(Float(32768.0, 32768.001 - 3.6e-12, step=0.001), random.Random(0))  # rounded as coarsely as numbers are there
def test_sampling_and_the_grid_agree_on_where_it_ends(parameter, rng):
    assume(parameter.step is not None)
    axis = [parameter.point(number) for number in range(parameter.last_point + 1)]
    assert {parameter.sample(rng) for _ in range(200)} <= set(axis)
    assert parameter.middle() in axis
    assert all(map(parameter.contains, axis))
    assert not parameter.contains(parameter.high) or abs(axis[-1] - parameter.high) < 1e-6 * parameter.step
    assert [configuration["x"] for configuration in walk(GridSearch(Space({"x": parameter}), 1))] == axis


@relaxed
@given(small_spaces(), points)
def test_a_point_is_found_again_from_its_configuration(space, count):
    grid = Grid(space, count)
    for point in itertools.islice(grid.points(), 200):
        assert grid.point_of(grid.configuration(point)) == point


@relaxed
@given(small_spaces(), points, st.integers(0, 50))
def test_a_replay_from_anywhere_repeats_nothing(space, count, kept):
    whole = walk(GridSearch(space, count))
    begun, rest = whole[:kept], whole[kept:]
    again = GridSearch(space, count)
    for trial, configuration in enumerate(begun):
        again.started(trial, configuration)
    assert walk(again, len(begun)) == rest


@relaxed
@given(st.integers(0, 40), st.integers(1, 40), st.integers(0, 5), st.integers(0, 5), st.sampled_from([0.1, 0.3, 1.0]))
def test_a_wider_range_begins_only_what_is_new(low, steps, before, after, step):
    def space(first, last):
        return Space({"x": Float(first * step, last * step, step=step), "k": Choice(["a", "b"])})

    search = GridSearch(space(low, low + steps), None)
    begun = walk(search)
    search.widened(space(low - before, low + steps + after))
    added = walk(search, len(begun))
    assert len(begun) == 2 * (steps + 1)
    assert len(added) == 2 * (before + after)
    assert {round(c["x"] / step) for c in added} == {
        *range(low - before, low),
        *range(low + steps + 1, low + steps + 1 + after),
    }


@relaxed
@given(st.integers(1, 10**9), st.integers(1, 10**9), st.integers(1, 10**9))
def test_a_grid_that_is_too_large_is_refused_at_once(left, right, high):
    space = Space({"a": Int(1, left), "b": Int(1, right), "c": Float(0.0, float(high), step=0.5)})
    is_large = left * right * (2 * high + 1) > 1_000_000
    if not is_large:
        Grid(space, None)
        return
    with pytest.raises(InvalidSpecification, match="the grid has more than 1,000,000 configurations"):
        Grid(space, None)

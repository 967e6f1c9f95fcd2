"""The values on a grid's axes, and what has no grid."""

import math

import pytest

from orchestrator.domain.errors import InvalidSpecification
from orchestrator.domain.grid import Grid
from orchestrator.domain.space import Choice, Float, Int, Space
from orchestrator.search import GridSearch, make_suggester


def axis(parameter, points=None):
    grid = Grid(Space({"x": parameter}), points)
    return [grid.configuration(point)["x"] for point in grid.points()]


@pytest.mark.parametrize(
    ("parameter", "points", "values"),
    [
        (Choice(["a", None, True, 1]), None, ["a", None, True, 1]),
        (Int(2, 5), None, [2, 3, 4, 5]),
        (Int(2, 9, step=3), 2, [2, 5, 8]),
        (Int(1, 4, log=True), None, [1, 2, 3, 4]),
        (Int(1, 100, log=True), 3, [1, 10, 100]),
        (Float(0.0, 0.5, step=0.25), None, [0.0, 0.25, 0.5]),
        (Float(0.0, 1.0), 5, [0.0, 0.25, 0.5, 0.75, 1.0]),
        (Float(0.0, 1.0), 1, [0.5]),
        (Float(0.3, 0.3), None, [0.3]),
    ],
)
def test_each_kind_of_parameter_has_its_values(parameter, points, values):
    assert axis(parameter, points) == values


def test_points_are_evenly_spread_on_the_parameters_own_scale_and_hold_both_ends():
    values = axis(Float(1e-4, 1e-1, log=True), 4)
    assert (values[0], values[-1]) == (1e-4, 1e-1)
    assert [math.log10(value) for value in values] == pytest.approx([-4, -3, -2, -1])


def test_a_conditional_parameter_multiplies_only_where_it_exists():
    space = Space({"kind": Choice(["flat", "deep"]), "depth": Int(1, 3, when={"kind": "deep"})})
    grid = Grid(space, None)
    assert [grid.configuration(point) for point in grid.points()] == [
        {"kind": "flat"},
        *({"kind": "deep", "depth": depth} for depth in (1, 2, 3)),
    ]


def test_a_continuous_parameter_without_points_is_refused_with_what_to_write():
    with pytest.raises(
        InvalidSpecification, match=r"continuous parameter 'lr'; give it a step or values, or .*points: 5"
    ):
        make_suggester("grid", Space({"k": Int(1, 2), "lr": Float(0.0, 1.0)}), 0)


def test_conditions_count_when_a_grid_is_measured():
    leaves = {f"x{n}": Int(1, 1000, when={"kind": n}) for n in range(100)}
    Grid(Space({"kind": Choice(list(range(100))), **leaves}), None)  # 100,000 configurations, not 100 · 1000^100


def test_a_configuration_beside_the_grid_takes_nothing_from_it():
    search = GridSearch(Space({"x": Float(0.0, 1.0)}), 3)
    search.started(0, {"x": 0.4})
    search.started(1, {"x": 0.5})
    begun = []
    while not search.is_exhausted():
        begun.append(search.suggest(2 + len(begun))["x"])
        search.started(1 + len(begun), {"x": begun[-1]})
    assert begun == [0.0, 1.0]


def test_a_configuration_reached_by_another_sum_is_the_same():
    search = GridSearch(Space({"x": Float(-0.3, 0.0, step=0.1)}), None)
    for trial, x in enumerate((-0.3, -0.2, -0.1, -0.3 + 3 * 0.1)):  # the last is 5.6e-17
        search.started(trial, {"x": x})
    assert search.is_exhausted()

"""What is wrong with a space is said with the parameter's name, what was given and what is allowed."""

import math

import pytest

from orchestrator.domain.errors import InvalidSpace
from orchestrator.domain.space import Choice, Float, Int, Space

SGD = {"optimizer": {"values": ["adam", "sgd"]}}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": {"min": 1, "max": 0}}, "parameter 'lr': Int from 1 to 0 is inverted: min must not be above max"),
        ({"lr": {"min": 0.0, "max": 0.1, "log": True}}, "parameter 'lr': Float with log: true needs bounds above 0"),
        ({"n": {"min": -1, "max": 5, "log": True}}, "Int with log: true needs bounds above 0; given min -1"),
        ({"lr": {"min": 0.1, "max": 1.0, "log": "false"}}, "Float takes log: true or false; given 'false'"),
        ({"lr": {"min": 0.1, "max": 1.0, "log": True, "step": 0.1}}, "takes either log or step, not both"),
        ({"lr": {"min": 0.1, "max": 1.0, "step": 0}}, "Float needs a step above 0; given 0"),
        ({"lr": {"min": 0.1, "max": math.inf}}, "Float needs finite bounds; given 0.1 to inf"),
        ({"lr": {"min": 0.1}}, "parameter 'lr': max missing; give min and max, or values"),
        ({"lr": {"min": "tiny", "max": 1}}, "min, max and step are numbers; given 'tiny'"),
        ({"lr": {"min": 0.5, "max": 1, "type": "int"}}, "type int needs whole numbers; given min 0.5"),
        ({"lr": {"min": 0, "max": 1, "type": "real"}}, "type is int or float; given 'real'"),
        ({"lr": {"mni": 0, "max": 1}}, "parameter 'lr' has an unknown key 'mni'. Did you mean 'min'?"),
        ({"lr": {"min": 0, "max": 1, "values": [1]}}, "takes either values, or one value, or min and max"),
        ({"lr": 0.1}, "parameter 'lr' is {min:, max:} or {values: […]}; given 0.1"),
        ({"opt": {"values": []}}, "Choice needs a list of at least one value; given []"),
        ({"opt": {"values": "adam"}}, "Choice needs a list of at least one value; given 'adam'"),
        ({"opt": {"values": ["a", "a"]}}, "Choice lists 'a' twice"),
        ({"opt": {"values": [[1]]}}, "Choice takes text, numbers, true, false and null; given [1]"),
        ({"opt": {"values": [math.nan]}}, "Choice takes finite numbers; given nan"),
        ({"m": {"min": 0, "max": 1, "when": "sgd"}} | SGD, "when maps parents to the values they must have"),
        (
            {"m": {"min": 0, "max": 1, "when": {"optimiser": "sgd"}}} | SGD,
            "parameter 'm' depends on 'optimiser', which is not in the space (m, optimizer). Did you mean 'optimizer'?",
        ),
        (
            {"m": {"min": 0, "max": 1, "when": {"optimizer": "sdg"}}} | SGD,
            "parameter 'm' waits for optimizer = 'sdg', which it can never be",
        ),
        ({"m": {"min": 0, "max": 1, "when": {"optimizer": []}}} | SGD, "the condition on 'optimizer' allows no value"),
        (
            {"a": {"values": [1, 2], "when": {"b": 1}}, "b": {"values": [1, 2], "when": {"a": 1}}, "c": {"value": 0}},
            "the conditions of a, b go round in a circle",
        ),
        ({"a": {"values": [1, 2], "when": {"a": 1}}}, "the conditions of a go round in a circle"),
        ({3: {"value": 0}}, "a parameter's name is text; given 3"),
        ([1, 2], "a space maps names to parameters; given [1, 2]"),
    ],
)
def test_a_space_that_makes_no_sense_is_refused(given, message):
    with pytest.raises(InvalidSpace) as caught:
        Space.from_dict(given)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Float("0", 1),
        lambda: Float(True, 2),
        lambda: Float(0, 1, step="x"),
        lambda: Int(0.5, 1),
        lambda: Int(0, 1, step=0),
        lambda: Int(None, 1),
        lambda: Choice(5),
        lambda: Space({"a": 3}),
    ],
)
def test_the_python_form_is_checked_when_it_is_made(make):
    with pytest.raises(InvalidSpace):
        make()


def test_text_that_yaml_did_not_read_as_a_number_is_one():
    space = Space.from_dict({"lr": {"min": "1e-4", "max": "1e-1", "log": True}})
    assert space.parameters["lr"] == Float(1e-4, 1e-1, log=True)


def test_whole_numbers_make_an_int_and_others_a_float():
    space = Space.from_dict(
        {"a": {"min": 1, "max": 4}, "b": {"min": 1, "max": 4.0}, "c": {"min": 1, "max": 4, "type": "float"}}
    )
    assert [type(parameter) for parameter in space.parameters.values()] == [Int, Float, Float]


def test_a_condition_tells_true_from_one():
    space = Space.from_dict({"flag": {"values": [True, 1]}, "x": {"value": 0, "when": {"flag": True}}})
    space.validate({"flag": True, "x": 0})
    space.validate({"flag": 1})
    with pytest.raises(InvalidSpace, match="'x' has no place in this configuration"):
        space.validate({"flag": 1, "x": 0})


def test_a_set_of_allowed_values_has_one_order_in_every_process():
    parameter = Int(0, 1, when={"optimizer": {"sgd", "adam", "lion"}})
    assert parameter.when["optimizer"] == ("adam", "lion", "sgd")


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"optimizer": "sgd"}, "the configuration lacks 'momentum'"),
        ({"optimizer": "adam", "momentum": 0.5}, "'momentum' has no place in this configuration"),
        ({"optimizer": "sgd", "momentum": 2.0}, "momentum = 2.0 is outside {'type': 'float', 'min': 0.0"),
        ({"optimiser": "sgd"}, "'optimiser' is not in the space. Did you mean 'optimizer'?"),
    ],
)
def test_a_configuration_outside_the_space_is_refused(configuration, message):
    space = Space({"optimizer": Choice(["adam", "sgd"]), "momentum": Float(0, 0.99, when={"optimizer": "sgd"})})
    with pytest.raises(InvalidSpace) as caught:
        space.validate(configuration)
    assert message in str(caught.value)


def test_a_configuration_is_completed_with_middles_and_without_what_is_inactive():
    space = Space(
        {
            "optimizer": Choice(["adam", "sgd"]),
            "momentum": Float(0, 0.9, when={"optimizer": "sgd"}),
            "n": Int(1, 100, log=True),
        }
    )
    assert space.complete({"momentum": 0.3}) == {"optimizer": "adam", "n": 10}
    assert space.complete({"optimizer": "sgd"}) == {"optimizer": "sgd", "n": 10, "momentum": 0.45}
    with pytest.raises(InvalidSpace, match=r"'momentun' is not in the space. Did you mean 'momentum'"):
        space.complete({"momentun": 0.3})


def test_a_grid_far_from_zero_holds_its_own_points():
    parameter = Float(32768.0, 32769.0, step=0.001)
    assert parameter.contains(32768.001)
    assert not parameter.contains(32768.0015)

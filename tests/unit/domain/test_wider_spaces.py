"""What a wider space may be, and what is said where it is none."""

import pytest

from orchestrator.domain.errors import InvalidSpace
from orchestrator.domain.space import Space
from orchestrator.domain.widening import check_wider

OLD = {
    "lr": {"min": 1e-3, "max": 1e-1, "log": True},
    "layers": {"min": 1, "max": 4},
    "dropout": {"min": 0.0, "max": 0.5, "step": 0.1},
    "optimizer": {"values": ["adam", "sgd"]},
    "momentum": {"min": 0.0, "max": 0.9, "when": {"optimizer": "sgd"}},
    "width": {"value": 64},
}


def widen(**changes):
    new = {name: entry for name, entry in (OLD | changes).items() if entry is not None}
    check_wider(Space.from_dict(OLD), Space.from_dict(new))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lr": {"min": 1e-5, "max": 1.0, "log": True}},
        {"lr": {"min": 0.0, "max": 1.0}},
        {"layers": {"min": 0, "max": 9}},
        {"dropout": {"min": -0.2, "max": 0.7, "step": 0.1}},
        {"dropout": {"min": 0.0, "max": 0.5, "step": 0.05}},
        {"dropout": {"min": 0.0, "max": 0.5}},
        {"optimizer": {"values": ["rmsprop", "sgd", "adam"]}},
        {"width": {"min": 16, "max": 256}},
        {"width": {"values": [32, 64]}},
        {"decay": {"min": 0.0, "max": 1.0, "default": 0.0}},
        {"decay": {"value": 0.1}},
        {
            "optimizer": {"values": ["adam", "sgd", "rmsprop"]},
            "momentum": {"min": 0.0, "max": 0.9, "when": {"optimizer": ["sgd", "rmsprop"]}},
            "alpha": {"min": 0.0, "max": 1.0, "when": {"optimizer": "rmsprop"}},
        },
        {
            "kind": {"values": ["old", "new"], "default": "old"},
            "depth": {"min": 1, "max": 9, "when": {"kind": "new"}},
        },
    ],
)
def test_a_space_that_holds_the_old_one_is_wider(changes):
    widen(**changes)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"lr": {"min": 1e-2, "max": 1e-1, "log": True}},
            r"'lr' went from 0\.001 to 0\.1 and now goes from 0\.01 to 0\.1",
        ),
        ({"layers": None}, "'layers' is missing"),
        ({"layers": None, "layer": {"value": 1}}, r"'layers' is missing\. Did you mean 'layer'\?"),
        ({"layers": {"min": 1.0, "max": 4.0}}, "'layers' was an Int and is now a Float"),
        (
            {"layers": {"min": -1, "max": 4, "step": 2}},
            "'layers' took every value, and not all of them lie on steps of 2",
        ),
        ({"dropout": {"min": 0.0, "max": 0.5, "step": 0.2}}, r"steps of 0\.1 from 0\.0, and not all .* 0\.2 from 0\.0"),
        ({"dropout": {"min": -0.05, "max": 0.5, "step": 0.1}}, r"not all of them lie on steps of 0\.1 from -0\.05"),
        ({"lr": {"min": 0.001, "max": 0.1, "step": 0.001}}, "'lr' took every value"),
        ({"optimizer": {"values": ["adam"]}, "momentum": None}, "'optimizer' no longer takes 'sgd'"),
        ({"width": {"min": 65, "max": 99}}, "'width' no longer takes 64"),
        ({"momentum": {"min": 0.0, "max": 0.9}}, "'momentum' depended on optimizer and now depends on nothing"),
        ({"layers": {"min": 1, "max": 4, "when": {"optimizer": "adam"}}}, "'layers' depended on nothing and now"),
        (
            {"momentum": {"min": 0.0, "max": 0.9, "when": {"optimizer": ["sgd", "adam"]}}},
            "'momentum' now exists where optimizer is 'adam', and older trials with that value have none",
        ),
        (
            {"momentum": {"min": 0.0, "max": 0.9, "when": {"optimizer": "adam"}}},
            "'momentum' no longer exists where optimizer is 'sgd'",
        ),
        ({"decay": {"min": 0.0, "max": 1.0}}, r"'decay' is new: .*such as decay: {.*default.: 0\.5}"),
        ({"decay": {"min": 0.0, "max": 1.0, "when": {"optimizer": "sgd"}}}, "'decay' is new: say with `default`"),
        (
            {
                "kind": {"values": ["old", "new"], "default": "new"},
                "depth": {"min": 1, "max": 9, "when": {"kind": "new"}},
            },
            "'depth' is new: say with `default`",
        ),
    ],
)
def test_a_space_that_does_not_is_refused_with_the_place(changes, told):
    with pytest.raises(InvalidSpace, match=told):
        widen(**changes)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"min": 0, "max": 3, "default": 4}, r"parameter 'x': the default 4 is outside"),
        ({"min": 0.0, "max": 1.0, "step": 0.5, "default": 0.3}, r"the default 0\.3 is outside"),
        ({"min": 0.0, "max": 1.0, "default": "much"}, r"numbers; given 'much'"),
        ({"values": ["a", "b"], "default": None}, r"the default None is outside"),
        ({"value": 1, "default": 1}, r"takes either values, or one value"),
    ],
)
def test_a_default_is_one_of_the_parameters_values(entry, told):
    with pytest.raises(InvalidSpace, match=told):
        Space.from_dict({"x": entry})


def test_whoever_does_not_choose_gets_the_default():
    space = Space.from_dict(
        {
            "lr": {"min": "1e-4", "max": "1e-1", "log": True, "default": "1e-3"},
            "n": {"min": 1, "max": 9, "default": 2},
            "kind": {"values": ["a", None], "default": None},
        }
    )
    assert space.complete({}) == {"lr": 1e-3, "n": 2, "kind": None}
    assert space.nearest({"n": "many"})["n"] == 2
    assert Space.from_dict(space.to_dict()) == space

"""Laws of wider spaces: what passes for one holds every configuration of the old one."""

import random

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from spaces import NAMES, spaces

from orchestrator.domain.errors import InvalidSpace
from orchestrator.domain.space import UNSET, Choice, Float, Int, Space
from orchestrator.domain.widening import check_wider

relaxed = settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def changed(draw, parameter):
    """The parameter, a little wider or narrower, with other steps, under another condition."""
    when = parameter.when
    if when and draw(st.integers(0, 3)) == 0:
        when = {parent: allowed for parent, allowed in when.items() if draw(st.booleans())}
    if isinstance(parameter, Choice):
        added = [value for value in ("new", 17) if draw(st.booleans()) and not parameter.contains(value)]
        kept = [value for value in parameter.values if draw(st.integers(0, 5))]
        return Choice([*added, *kept] or ["new"], when=when)
    step, kind = parameter.step, type(parameter)
    unit = step or (1 if kind is Int else 0.5)
    low = parameter.low - unit * draw(st.sampled_from([0, 0, 1, 2, -1]))
    high = parameter.high + unit * draw(st.sampled_from([0, 0, 1, 3, -1]))
    log = parameter.log and low > 0
    if kind is Float and step and draw(st.booleans()):
        step = draw(st.sampled_from([None, step / 2, step / 3, step * 2]))
    assume(low <= high)
    return kind(low, high, log=log and step is None, step=step, when=when)


@st.composite
def pairs(draw):
    old = draw(spaces(min_size=1))
    new = {name: draw(changed(parameter)) for name, parameter in old.parameters.items() if draw(st.integers(0, 7))}
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=2, unique=True)):
        if name not in old.parameters:
            parent = draw(st.sampled_from([None, *new]))
            when = None if parent is None else {parent: new[parent].middle()}
            default = draw(st.sampled_from([UNSET, 1, 2]))
            new[name] = Int(1, 3, when=when, default=default)
    try:
        return old, Space(new)
    except InvalidSpace:
        assume(False)


@relaxed
@given(pairs(), st.integers(0, 2**20))
def test_every_configuration_of_the_old_space_has_its_place_in_the_wider_one(pair, seed):
    old, new = pair
    try:
        check_wider(old, new)
    except InvalidSpace:
        return
    for number in range(20):
        before = old.sample(random.Random(f"{seed}/{number}"))
        after = new.complete(before)
        new.validate(after)
        assert {name: after[name] for name in before} == before, "what a trial had it still has"
        for name in after.keys() - before.keys():
            assert after[name] == new.parameters[name].default


@relaxed
@given(spaces())
def test_every_space_is_as_wide_as_itself(space):
    check_wider(space, space)


@relaxed
@given(spaces(), spaces(), spaces())
def test_wider_than_wider_is_wider(first, second, third):
    for left, right in ((first, second), (second, third)):
        try:
            check_wider(left, right)
        except InvalidSpace:
            return
    check_wider(first, third)

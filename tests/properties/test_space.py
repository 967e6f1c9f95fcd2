"""Laws of every space."""

import json
import pickle
import random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spaces import spaces

from orchestrator.domain.space import Space
from orchestrator.search.codes import code_of, parameters_by_condition

seeds = st.integers(0, 2**31)
relaxed = settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(spaces())
def test_a_space_survives_its_written_form(space):
    written = json.loads(json.dumps(space.to_dict()))
    again = Space.from_dict(written)
    assert again == space
    assert list(again.parameters) == list(space.parameters)
    assert again.to_dict() == space.to_dict()


@relaxed
@given(spaces(), seeds)
def test_every_sample_is_valid_and_the_same_seed_gives_the_same(space, seed):
    sample = space.sample(random.Random(seed))
    space.validate(sample)
    assert space.sample(random.Random(seed)) == sample
    space.validate(json.loads(json.dumps(sample)))


@relaxed
@given(spaces(), seeds, st.data())
def test_a_part_of_a_sample_is_completed_to_a_valid_configuration(space, seed, data):
    sample = space.sample(random.Random(seed))
    kept = data.draw(st.sets(st.sampled_from(sorted(sample)))) if sample else set()
    partial = {name: sample[name] for name in kept}
    whole = space.complete(partial)
    space.validate(whole)
    assert all(whole[name] == value for name, value in partial.items() if name in whole)
    assert space.complete(sample) == sample


@relaxed
@given(spaces())
def test_parents_come_before_their_children_however_the_space_was_written(space):
    names = list(space.parameters)
    for name, parameter in space.parameters.items():
        assert all(names.index(parent) < names.index(name) for parent in parameter.when or {})
    assert list(Space(dict(reversed(space.parameters.items()))).parameters) == names


@relaxed
@given(spaces())
def test_a_space_survives_a_pickle(space):
    assert pickle.loads(pickle.dumps(space)) == space


@relaxed
@given(spaces(), seeds)
def test_the_engines_numbers_stand_for_the_same_values(space, seed):
    for name, value in space.sample(random.Random(seed)).items():
        code = code_of(space.parameters[name])
        number = code.encode(value)
        assert code.low <= number <= code.high
        assert code.decode(number) == value or abs(code.decode(number) - value) <= 1e-9 * max(1.0, abs(value))


@relaxed
@given(spaces(min_size=1), st.floats(0, 1))
def test_every_number_of_an_engine_is_a_value_of_the_parameter(space, share):
    for parameter in space.parameters.values():
        code = code_of(parameter)
        for number in (code.low, code.high, code.low + share * (code.high - code.low), code.low - 1, code.high + 1):
            assert parameter.contains(code.decode(number)), number


@relaxed
@given(spaces(), seeds)
def test_parameters_with_one_condition_are_active_together(space, seed):
    sample = space.sample(random.Random(seed))
    groups = parameters_by_condition(space)
    assert sorted(name for group in groups for name in group) == sorted(space.parameters)
    for group in groups:
        assert len({name in sample for name in group}) == 1

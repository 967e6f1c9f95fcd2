"""One suite for every search engine: each sentence of the port's docstrings is a test."""

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from orchestrator.domain.errors import InvalidSpace, InvalidSpecification
from orchestrator.domain.space import Choice, Float, Int, Space
from orchestrator.domain.specification import ENGINES
from orchestrator.search import make_suggester

ROOT = Path(__file__).parents[2]
SPACE = Space(
    {
        "lr": Float(1e-4, 1e-1, log=True),
        "dropout": Float(0.0, 0.5, step=0.1),
        "layers": Int(1, 4),
        "width": Int(16, 256, log=True),
        "batch": Int(32, 256, step=32),
        "optimizer": Choice(["adam", "sgd", None]),
        "momentum": Float(0.0, 0.99, when={"optimizer": "sgd"}),
        "nesterov": Choice([True, False, 1], when={"optimizer": "sgd"}),
        "lookahead": Int(1, 9, when={"optimizer": ["sgd", "adam"], "nesterov": [True, 1]}),
        "fixed": Choice(["only"]),
        "point": Float(0.3, 0.3),
    }
)


WIDER = Space(
    dict(SPACE.parameters)
    | {
        "lr": Float(1e-5, 1e-1, log=True),
        "dropout": Float(0.0, 0.8, step=0.1),
        "layers": Int(1, 6),
        "optimizer": Choice(["rmsprop", "adam", "sgd", None]),
        "point": Float(0.3, 0.4),
    }
)
POINTS = 3  # of the grid; the other engines take none


@pytest.fixture(params=ENGINES)
def engine(request):
    return request.param


def make(engine, space, seed):
    return make_suggester(engine, space, seed, POINTS if engine == "grid" else None)


def live(suggester, trials, seed=0):
    """Runs trials with pauses, failures, divergence and several pending at once; returns what was suggested."""
    rng, suggested, pending = random.Random(seed), [], []
    for trial in range(trials):
        configuration = suggester.suggest(trial)
        suggested.append(configuration)
        suggester.started(trial, configuration)
        pending.append(trial)
        while len(pending) > 3:
            done = pending.pop(rng.randrange(len(pending)))
            loss = rng.random() + suggested[done]["layers"] + math.log(suggested[done]["lr"]) ** 2
            if rng.random() < 0.8:
                suggester.observed(done, 1, loss if rng.random() < 0.9 else math.inf)
            if rng.random() < 0.3:  # paused, and goes on
                suggester.ended(done, failed=False)
                suggester.started(done, suggested[done])
                suggester.observed(done, 3, loss * 0.9)
            suggester.ended(done, failed=rng.random() < 0.1)
    return suggested


def test_every_suggestion_is_a_configuration_of_the_space(engine):
    for configuration in live(make(engine, SPACE, 3), 80):
        SPACE.validate(configuration)
        assert json.loads(json.dumps(configuration)) == configuration, "plain values, none of numpy's"


def test_the_same_calls_give_the_same_answers(engine):
    assert live(make(engine, SPACE, 3), 40) == live(make(engine, SPACE, 3), 40)


def test_the_same_calls_give_the_same_answers_in_another_process(engine):
    code = (
        f"import json, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        "from test_suggesters import SPACE, live, make; "
        f"print(json.dumps(live(make({engine!r}, SPACE, 3), 30)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True).stdout
    assert json.loads(answer) == live(make(engine, SPACE, 3), 30)


def test_asking_twice_answers_the_same_and_changes_nothing(engine):
    asked, unasked = make(engine, SPACE, 3), make(engine, SPACE, 3)
    live(asked, 30)
    live(unasked, 30)
    first = asked.suggest(30)
    asked.suggest(31)
    assert asked.suggest(30) == first == unasked.suggest(30)


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if engine != "grid"])
def test_another_seed_or_trial_gives_another_answer(engine):
    suggester = make(engine, SPACE, 3)
    live(suggester, 30)
    assert len({json.dumps(suggester.suggest(trial)) for trial in range(30, 40)}) == 10
    assert live(make(engine, SPACE, 4), 5) != live(make(engine, SPACE, 3), 5)


@pytest.mark.parametrize("trials", [0, 5, 40])
def test_another_one_that_takes_over_what_it_was_told_goes_on_alike(engine, trials):
    first = make(engine, SPACE, 3)
    configurations = dict(enumerate(live(first, trials)))
    other = make(engine, SPACE, 3)
    other.restore(json.loads(json.dumps(first.told(), allow_nan=False)), configurations)
    assert live(Later(other, trials), 20, seed=1) == live(Later(first, trials), 20, seed=1)
    assert json.dumps(other.told()) == json.dumps(first.told())


class Later:
    """A suggester whose trials begin at a number."""

    def __init__(self, suggester, first):
        self._suggester, self._first = suggester, first

    def __getattr__(self, name):
        return lambda trial, *given, **more: getattr(self._suggester, name)(self._first + trial, *given, **more)


def test_no_global_generator_is_drawn_from(engine):
    before = random.getstate(), np.random.get_state()[1].tolist()
    live(make(engine, SPACE, 3), 30)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


def test_trials_that_all_fail_or_diverge_stop_nobody_from_asking(engine):
    suggester = make(engine, SPACE, 3)
    for trial in range(30):
        suggester.started(trial, suggester.suggest(trial))
        if trial % 2:
            suggester.observed(trial, 1, math.inf)
        suggester.ended(trial, failed=trial % 3 == 0)
    SPACE.validate(suggester.suggest(30))


def test_a_space_with_nothing_to_choose_has_one_configuration(engine):
    for space in (Space({}), Space({"x": Choice(["only"]), "y": Int(3, 3)})):
        suggester = make(engine, space, 3)
        suggested = []
        for trial in range(15):
            if suggester.is_exhausted():
                break
            suggested.append(suggester.suggest(trial))
            suggester.started(trial, suggested[-1])
            suggester.observed(trial, 1, 0.5)
            suggester.ended(trial, failed=False)
        assert suggested == [space.complete({})] * (1 if engine == "grid" else 15)


def test_only_a_finite_list_is_ever_exhausted_and_asking_changes_nothing(engine):
    space = Space({"x": Int(1, 4)})
    suggester = make(engine, space, 3)
    for trial in range(20):
        if suggester.is_exhausted():
            break
        suggester.started(trial, suggester.suggest(trial))
        suggester.observed(trial, 1, 0.5)
        suggester.ended(trial, failed=False)
    assert suggester.is_exhausted() is suggester.is_exhausted() is (engine == "grid")
    assert trial == (4 if engine == "grid" else 19)


def test_a_wider_space_is_used_and_what_was_told_stays_known(engine):
    suggester, again = make(engine, SPACE, 3), make(engine, SPACE, 3)
    for each in (suggester, again):
        live(each, 30)
        each.widened(WIDER)
    suggested = []
    for trial in range(30, 90):
        suggested.append(suggester.suggest(trial))
        assert again.suggest(trial) == suggested[-1]
        WIDER.validate(suggested[-1])
        for each in (suggester, again):
            each.started(trial, suggested[-1])
            each.observed(trial, 1, float(trial % 7))
            each.ended(trial, failed=False)
    outside = [configuration for configuration in suggested if not is_in(SPACE, configuration)]
    assert outside, "what is new is tried"


def is_in(space, configuration):
    try:
        space.validate(configuration)
    except InvalidSpace:
        return False
    return True


def test_an_unknown_engine_is_refused_with_the_nearest_name():
    with pytest.raises(
        InvalidSpecification,
        match=r"given 'randm'; it is one of auto, random, grid, sobol, tpe\. Did you mean 'random'",
    ):
        make_suggester("randm", SPACE, 0)


def test_optuna_and_scipy_are_imported_only_for_those_who_use_them():
    code = (
        "import sys; from orchestrator.search import make_suggester; from orchestrator.domain.space import Space\n"
        "make_suggester('random', Space({}), 0).suggest(0); make_suggester('grid', Space({}), 0).suggest(0)\n"
        "assert not {'optuna', 'numpy', 'scipy'} & set(sys.modules)\n"
        "make_suggester('auto', Space({}), 0); assert not {'torch', 'sklearn'} & set(sys.modules)\n"
        "assert 'optuna' in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code], cwd=ROOT, check=True)

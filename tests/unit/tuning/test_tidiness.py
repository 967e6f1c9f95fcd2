"""What a trial changes in its process is its own affair."""

import logging
import os
import random

import numpy as np
import pytest
import torch
from worker_orders import order

from orchestrator.domain.trials import Decision
from orchestrator.tuning.tidiness import Surroundings
from trainables.testing import Trivial


@pytest.fixture(autouse=True)
def untouched():
    """The process is after each test what it was before it."""
    before = _picture()
    yield
    assert _picture() == before


def _picture():
    root = logging.getLogger()
    return (
        {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        os.getcwd(),
        (root.level, [id(handler) for handler in root.handlers]),
        (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()),
        (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()),
    )


def make_a_mess(directory):
    os.environ["MESS"] = "1"
    os.environ.pop("HOME", None)
    os.chdir(directory)
    logging.getLogger().setLevel(logging.CRITICAL)
    logging.getLogger().addHandler(logging.NullHandler())
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1 + torch.get_num_threads() % 2)
    torch.set_grad_enabled(False)
    draw()


def draw():
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_everything_is_put_back(tmp_path):
    with Surroundings(1):
        make_a_mess(tmp_path)


def test_everything_is_put_back_after_an_error_too(tmp_path):
    def fail():
        with Surroundings(1):
            make_a_mess(tmp_path)
            raise ValueError

    with pytest.raises(ValueError):
        fail()


def test_the_generators_are_seeded_for_the_trial():
    with Surroundings(1):
        first = draw()
    with Surroundings(1):
        second = draw()
    with Surroundings(2):
        third = draw()
    assert first == second
    assert all(a != b for a, b in zip(first, third, strict=True))


def test_a_trial_that_goes_on_finds_its_things_as_it_left_them(tmp_path):
    own, other = Surroundings(1), Surroundings(2)
    with own:
        make_a_mess(tmp_path)
        left = _picture()
    with other:
        draw()
        assert "MESS" not in os.environ
        assert torch.get_default_dtype() is torch.float32
    with own:
        assert _picture() == left


def test_it_makes_no_difference_how_the_work_is_cut():
    with Surroundings(5):
        whole = [draw() for _ in range(4)]
    own, cut = Surroundings(5), []
    for _ in range(4):
        with own:
            cut.append(draw())
        draw_outside = random.Random(0)
        draw_outside.random()
    assert cut == whole


class Lucky(Trivial):
    """Its losses are pure luck."""

    def step(self):
        return {"loss": random.random()}


def test_a_worker_cuts_a_trials_work_without_disturbing_its_luck(make_worker):
    def course(tick):
        worker, desk, _ = make_worker(Lucky, tick=tick)
        desk.say(order(until=6))
        worker.turn()
        losses = []
        while len(losses) < 6:
            desk.say(verdicts={0: (Decision.CONTINUE, 6)})
            worker.turn()
            losses += [metrics["loss"] for _, metrics in desk.progress[0].reports]
        return losses

    assert course(tick=0.0) == course(tick=0.6)

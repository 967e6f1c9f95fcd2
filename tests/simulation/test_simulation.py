"""The laws of a study under a thousand random courses; a failing one prints its seed."""

import math
import random

import pytest
from simulator import Simulator, Weather

from orchestrator.domain.specification import StudySpecification

COURSES = 1_000
A_CHUNK = 50


def specification(seed: int, trials: int) -> StudySpecification:
    rng = random.Random(seed)
    return StudySpecification.from_dict(
        {
            "study": "simulated",
            "space": {"x": {"min": -5.0, "max": 5.0}},
            "objective": {"metric": "loss", "goal": "minimize"},
            "search": "random",
            "scheduler": {
                "kind": "asha",
                "min": 1,
                "max": rng.choice([1, 3, 9, 27, 20]),
                "eta": rng.choice([2, 3]),
                "mode": random.Random(f"{seed}/mode").choice(["pause", "pause", "stop"]),
            },
            "budget": {"trials": trials} | ({"time": 60} if rng.random() < 0.2 else {}),
            "failures": {"crashes": rng.randint(0, 3), "errors": rng.randint(0, 1), "alike": 3},
            "timeout": rng.choice([None, 8.0]),
            "serve": rng.choice([None, {"promote": {"margin": 0.1}}]),
            "seed": seed,
        }
    )


def weather(seed: int) -> Weather:
    rng = random.Random(seed)
    return Weather(
        workers=rng.choice([1, 2, 4, 8, 30]),
        lost=rng.choice([0, 0.02, 0.2]),
        doubled=rng.choice([0, 0.05, 0.3]),
        straggling=rng.choice([0, 0.1]),
        crashes=rng.choice([0, 0.02, 0.1]),
        failures=rng.choice([0, 0.02, 0.1]),
        not_finite=rng.choice([0, 0.02]),
        silent_hosts=rng.choice([0, 0, 0.9]),
        writer_dies=rng.choice([0, 0.01, 0.05]),
        saves=rng.choice([0, 1]),
        compact_at=rng.choice([math.inf, 1, 7, 60]),
    )


def course(seed: int) -> None:
    simulator = Simulator(specification(seed, trials=random.Random(seed).randint(1, 40)), seed, weather(seed))
    try:
        simulator.check(simulator.run())
    except BaseException as error:
        error.add_note(f"replay it with course({seed})")
        raise


@pytest.mark.parametrize("first", range(0, COURSES, A_CHUNK))
def test_the_laws_hold_in_any_weather(first: int) -> None:
    for seed in range(first, first + A_CHUNK):
        course(seed)


def test_the_laws_hold_with_a_thousand_workers() -> None:
    many = Weather(workers=1_000, lost=0.02, doubled=0.02, crashes=0.01, writer_dies=0.0005)
    simulator = Simulator(specification(7, trials=2_000).with_changes(serve=None, timeout_seconds=None), 7, many)
    state = simulator.run()
    simulator.check(state)
    assert len(state.trials) == 2_000


@pytest.mark.parametrize("compact_at", [math.inf, 5])
def test_a_writer_may_die_at_every_single_write(compact_at: float) -> None:
    calm = Weather(
        workers=2,
        lost=0,
        doubled=0,
        straggling=0,
        crashes=0,
        failures=0,
        not_finite=0,
        writer_dies=0,
        compact_at=compact_at,
    )
    given = specification(11, trials=6).with_changes(serve=None, timeout_seconds=None)
    whole = Simulator(given, 11, calm)
    whole.check(whole.run())
    assert (whole.journal.compactions > 3) == (compact_at == 5)
    for write in range(3, whole.journal.writes):  # the first two are made while the study is opened
        simulator = Simulator(given, 11, calm, dies_at=write)
        simulator.check(simulator.run())
        assert simulator.journal.deaths == 1, write

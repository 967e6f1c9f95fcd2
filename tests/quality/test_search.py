"""TPE finds better configurations than random search.

A sign test over 20 paired seeds: if TPE were no better than random, at least 15 wins of 20 would come by chance with
probability 0.021 in each test (binomial, p = 1/2): the false-alarm rate of a *pass*. The seeds are fixed, so a test
that passes once fails only when the search changes. `wins_by_chance` computes the rate.
"""

import math
import random

import pytest

from orchestrator.domain.space import Choice, Float, Int, Space
from orchestrator.domain.specification import SchedulerSpecification
from orchestrator.domain.trials import Decision
from orchestrator.schedulers import make_scheduler
from orchestrator.search import make_suggester

SEEDS = 20
WINS = 15
SPACE = Space(
    {
        "lr": Float(1e-5, 1.0, log=True),
        "layers": Int(1, 8),
        "dropout": Float(0.0, 0.9),
        "optimizer": Choice(["adam", "sgd", "rmsprop"]),
        "momentum": Float(0.0, 0.99, when={"optimizer": "sgd"}),
        "beta": Float(0.8, 0.999, when={"optimizer": "adam"}),
        "warmup": Int(1, 100, log=True, when={"optimizer": ["sgd", "adam"]}),
    }
)


def wins_by_chance(wins, of):
    return sum(math.comb(of, k) for k in range(wins, of + 1)) / 2**of


def loss(configuration):
    """A bowl in which SGD with much momentum is best, at lr 3e-2, 4 layers and little dropout."""
    value = (math.log10(configuration["lr"]) + 1.5) ** 2 + ((configuration["layers"] - 4) / 3) ** 2
    value += (configuration["dropout"] - 0.1) ** 2 * 3
    if configuration["optimizer"] == "sgd":
        return value + (configuration["momentum"] - 0.9) ** 2 * 2 + math.log10(configuration["warmup"] / 10) ** 2 / 4
    return value + (0.3 if configuration["optimizer"] == "adam" else 0.6)


def best_of_full_runs(engine, seed, trials=60):
    suggester, best = make_suggester(engine, SPACE, seed), math.inf
    for trial in range(trials):
        configuration = suggester.suggest(trial)
        suggester.started(trial, configuration)
        value = loss(configuration)
        suggester.observed(trial, 1, value)
        suggester.ended(trial, failed=False)
        best = min(best, value)
    return best


def best_under_asha(engine, seed, trials=81):
    """At resource r a trial shows its loss plus noise and a bias that both fade as r grows; the best at 27 counts."""
    suggester = make_suggester(engine, SPACE, seed)
    scheduler = make_scheduler(SchedulerSpecification("asha", 1, 27, 3))
    configurations, fresh, best = {}, iter(range(trials)), math.inf
    while True:
        promoted = scheduler.promotable()
        trial, step = promoted or (next(fresh, None), 0)
        if trial is None:
            return best
        if promoted:
            scheduler.resumed(trial)
        else:
            configurations[trial] = suggester.suggest(trial)
        suggester.started(trial, configurations[trial])
        decision = Decision.CONTINUE
        while decision is Decision.CONTINUE:
            step = scheduler.milestone(trial, step)
            true = loss(configurations[trial])
            seen = true + random.Random(f"{seed}/{trial}/{step}").gauss(0, 0.3) / step + 2 / step
            scheduler.recorded(trial, step, seen)
            suggester.observed(trial, step, seen)
            decision = scheduler.judge(trial, step)
            scheduler.decided(trial, step, decision)
            best = min(best, true) if step == 27 else best
        suggester.ended(trial, failed=False)
        if decision is Decision.STOP:
            scheduler.ended(trial)


@pytest.mark.slow
@pytest.mark.parametrize("play", [best_of_full_runs, best_under_asha])
def test_tpe_beats_random_search_on_a_conditional_space(play):
    assert wins_by_chance(WINS, SEEDS) < 0.021
    results = [(play("tpe", seed), play("random", seed)) for seed in range(SEEDS)]
    wins = sum(ours < theirs for ours, theirs in results)
    assert wins >= WINS, results

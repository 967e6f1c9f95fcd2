"""The error rate of a rollout's decision, by simulation: what is promised for any moment at which somebody looks."""

import math

import numpy as np
import pytest

from deploy.rollout.evidence import ArmCounts, Evidence
from deploy.rollout.judge import Action, Rollout, judge
from deploy.rollout.sequential import evidence_above, evidence_of_more
from orchestrator.domain.rollout import RolloutPlan

BEGAN = "2026-01-01T00:00:00.000+00:00"
ALPHA = 0.05
WORLDS = 1000
# A false alarm of these tests: more than ALPHA + 3 standard deviations of 1,000 worlds, p below 0.002 even where the
# rate is ALPHA itself; the mixture stays well below it.
MOST = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / WORLDS)


def counts(generator: np.random.Generator, p: float, asked: int, looks: int) -> np.ndarray:
    """Returns successes so far at each look, (WORLDS, looks), after `asked` more trials each time."""
    return generator.binomial(asked, p, (WORLDS, looks)).cumsum(axis=1)


@pytest.mark.parametrize("p", [0.001, 0.02, 0.3])
@pytest.mark.parametrize("share", [0.05, 0.5])
def test_a_challenger_like_the_champion_is_seldom_accused_however_often_somebody_looks(p, share):
    generator, looks, batch = np.random.default_rng(1), 60, 200
    mine = counts(generator, p, int(batch * share), looks)
    other = counts(generator, p, int(batch * (1 - share)), looks)
    accused = sum(
        any(
            evidence_of_more(
                int(mine[world, look]),
                int(batch * share) * (look + 1),
                int(other[world, look]),
                int(batch * (1 - share)) * (look + 1),
            )
            >= math.log(1 / ALPHA)
            for look in range(looks)
        )
        for world in range(WORLDS)
    )
    assert accused / WORLDS <= MOST


def test_the_worst_that_the_tolerance_allows_is_seldom_accused():
    generator, looks = np.random.default_rng(2), 25
    mine, other = counts(generator, 0.03, 40, looks), counts(generator, 0.02, 160, looks)
    accused = sum(
        any(
            evidence_of_more(int(mine[world, look]), 40 * (look + 1), int(other[world, look]), 160 * (look + 1), 0.01)
            >= math.log(1 / ALPHA)
            for look in range(looks)
        )
        for world in range(WORLDS)
    )
    assert accused / WORLDS <= MOST


def test_a_share_at_its_limit_is_seldom_accused():
    generator, looks = np.random.default_rng(3), 100
    mine = counts(generator, 0.2, 10, looks)
    accused = sum(
        any(
            evidence_above(int(mine[world, look]), 10 * (look + 1), 0.2) >= math.log(1 / ALPHA) for look in range(looks)
        )
        for world in range(WORLDS)
    )
    assert accused / WORLDS <= MOST


def withdrawn_after(generator: np.random.Generator, mine: float, other: float, most: int) -> int | None:
    """Returns after how many of its requests, of which it gets one in five, a challenger is withdrawn; None: never."""
    rollout = Rollout(1, 2, "file:///b", RolloutPlan("canary", (0.2,), alpha=ALPHA), 1.0, BEGAN)
    failed = other_failed = 0
    for asked in range(1, most + 1):
        failed += generator.random() < mine
        other_failed += generator.binomial(4, other)
        evidence = Evidence(ArmCounts(4 * asked, int(other_failed)), ArmCounts(asked, failed))
        if judge(rollout, evidence, BEGAN).action is Action.WITHDRAW:
            return asked
    return None


def test_a_challenger_that_fails_a_fifth_is_withdrawn_within_a_hundred_of_its_requests():
    generator = np.random.default_rng(4)
    after = [withdrawn_after(generator, 0.2, 0.0, 100) for _ in range(300)]
    assert None not in after
    assert np.median([asked for asked in after if asked is not None]) <= 40


def test_the_whole_decision_keeps_its_error_rate_where_both_arms_are_alike():
    generator, looks = np.random.default_rng(5), 20
    plan = RolloutPlan("canary", (0.25,), alpha=ALPHA, errors=0.0, disagreement=0.1)
    rollout = Rollout(1, 2, "file:///b", plan, 1.0, BEGAN)
    rates = {"failed": 0.02, "slow": 0.1, "wrong": 0.2}
    arms = [{name: counts(generator, rate, size, looks) for name, rate in rates.items()} for size in (150, 50)]
    differed = counts(generator, 0.1, 50, looks)

    def arm(number: int, world: int, look: int) -> ArmCounts:
        asked = (150, 50)[number] * (look + 1)
        return ArmCounts(asked, judged=asked, **{name: int(seen[world, look]) for name, seen in arms[number].items()})

    withdrawn = sum(
        any(
            judge(
                rollout,
                Evidence(arm(0, world, look), arm(1, world, look), 50 * (look + 1), int(differed[world, look])),
                BEGAN,
            ).action
            is Action.WITHDRAW
            for look in range(looks)
        )
        for world in range(WORLDS)
    )
    assert withdrawn / WORLDS <= MOST

"""ASHA under any order of arrival, against a second implementation that is as plain as the paper's algorithm."""

import math
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.trials import Decision
from orchestrator.schedulers import Asha, rung_levels

losses_strategy = st.floats(0, 1) | st.sampled_from([0.5, math.inf])


class PlainAsha:
    """Algorithm 2 of arXiv 1810.05934, literally: sorts everything each time."""

    def __init__(self, levels, eta):
        self.eta = eta
        self.recorded = {level: {} for level in levels}
        self.promoted = {level: set() for level in levels}

    def top(self, level):
        ranked = sorted(self.recorded[level], key=lambda trial: (self.recorded[level][trial], trial))
        best = ranked[: len(ranked) // self.eta]
        return [trial for trial in best if self.recorded[level][trial] < math.inf]

    def promotable(self, waiting):
        for level in reversed(list(self.recorded)[:-1]):
            for trial in self.top(level):
                if trial not in self.promoted[level] and waiting.get(trial) == level:
                    return trial, level
        return None


class Simulation:
    """Trials that run in any order which `draw` chooses; ASHA and the plain one are told the same."""

    def __init__(self, data, losses, levels, eta):
        self.data, self.losses, self.levels = data, losses, levels
        self.asha, self.plain = Asha(levels[0], levels[-1], eta), PlainAsha(levels, eta)
        self.fresh = list(range(len(losses)))
        self.running, self.waiting, self.over = {}, {}, set()

    def run(self):
        while self.fresh or self.running or self.asha.promotable():
            assert self.asha.promotable() == self.plain.promotable(self.waiting)
            moves = [move for move, possible in self.moves().items() if possible]
            getattr(self, self.data.draw(st.sampled_from(moves)))()
            self.check()

    def moves(self):
        return {
            "start": self.fresh,
            "promote": self.asha.promotable(),
            "report": self.running,
            "abandon": self.waiting and self.data.draw(st.integers(0, 9)) == 0,
        }

    def start(self):
        trial = self.fresh.pop(self.data.draw(st.integers(0, len(self.fresh) - 1)))
        self.running[trial] = self.asha.milestone(trial, 0)

    def promote(self):
        trial, level = self.asha.promotable()
        assert trial in self.plain.top(level), "promoted only from the top 1/eta of that moment"
        assert self.waiting.pop(trial) == level
        self.asha.resumed(trial)
        self.plain.promoted[level].add(trial)
        self.running[trial] = self.asha.milestone(trial, level)

    def report(self):
        trial = self.data.draw(st.sampled_from(sorted(self.running)))
        level = self.running.pop(trial)
        loss = self.losses[trial] if level == self.levels[0] else math.fmod(self.losses[trial] * 7 * level, 1.0)
        self.asha.recorded(trial, level, loss)
        self.plain.recorded[level][trial] = loss
        decision = self.asha.judge(trial, level)
        assert decision is self.expected(trial, level, loss)
        self.asha.decided(trial, level, decision)
        if decision is Decision.CONTINUE:
            self.plain.promoted[level].add(trial)
            self.running[trial] = self.asha.milestone(trial, level)
        elif decision is Decision.PAUSE:
            self.waiting[trial] = level
        else:
            self.asha.ended(trial)
            self.over.add(trial)

    def expected(self, trial, level, loss):
        if level == self.levels[-1] or loss == math.inf:
            return Decision.STOP
        return Decision.CONTINUE if trial in self.plain.top(level) else Decision.PAUSE

    def abandon(self):
        trial = self.data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[trial]
        self.asha.ended(trial)
        self.over.add(trial)

    def check(self):
        for below, above in zip(self.levels, self.levels[1:], strict=False):
            assert set(self.plain.recorded[above]) <= self.plain.promoted[below] <= set(self.plain.recorded[below])
        assert self.asha.rungs() == [
            {
                "resource": level,
                "trials": len(self.plain.recorded[level]),
                "promoted": len(self.plain.promoted[level]),
            }
            for level in self.levels
        ]


@settings(max_examples=150)
@given(
    st.data(), st.lists(losses_strategy, min_size=1, max_size=30), st.sampled_from([(1, 9, 3), (1, 8, 2), (2, 7, 4)])
)
def test_any_order_of_arrival_keeps_the_papers_rules(data, losses, shape):
    low, high, eta = shape
    levels = rung_levels(low, high, eta)
    simulation = Simulation(data, losses, levels, eta)
    simulation.run()
    for level in levels[:-1]:
        left = set(simulation.plain.top(level)) - simulation.plain.promoted[level]
        assert left <= simulation.over, "once drained, the whole top 1/eta was promoted or ended"
    assert set(simulation.plain.recorded[low]) == set(range(len(losses))), "every trial was compared once at the bottom"


@settings(max_examples=100)
@given(st.permutations(range(27)))
def test_what_waits_until_all_have_arrived_is_promoted_like_synchronous_halving(order):
    asha = Asha(1, 27, 3)
    for trial in order:
        asha.recorded(trial, 1, trial / 27)
        asha.decided(trial, 1, Decision.PAUSE)
    promoted = []
    while (found := asha.promotable()) is not None:
        promoted.append(found)
        asha.resumed(found[0])
    assert promoted == [(trial, 1) for trial in range(9)]


@settings(max_examples=100)
@given(st.integers(1, 3), st.integers(2, 10), st.integers(0, 12))
def test_the_levels_grow_by_whole_multiplication(low, eta, count):
    high = low * eta**count
    assert rung_levels(low, high, eta) == [low * eta**k for k in range(count + 1)]


@settings(max_examples=150)
@given(
    st.data(), st.lists(losses_strategy, min_size=1, max_size=40), st.sampled_from([(1, 9, 3), (1, 8, 2), (2, 7, 4)])
)
def test_stopping_judges_each_arrival_once_by_those_who_were_there(data, losses, shape):
    low, high, eta = shape
    levels = rung_levels(low, high, eta)
    asha = Asha(low, high, eta, stops=True)
    there = {level: [] for level in levels}  # who was recorded, in order of arrival
    through = {level: set() for level in levels}
    running = {trial: asha.milestone(trial, 0) for trial in range(len(losses))}
    stopped = set()
    while running:
        trial = data.draw(st.sampled_from(sorted(running)))
        level = running.pop(trial)
        loss = losses[trial] if level == low else math.fmod(losses[trial] * 7 * level, 1.0)
        there[level].append((loss, trial))
        asha.recorded(trial, level, loss)
        decision = asha.judge(trial, level)
        asha.decided(trial, level, decision)
        rank = sorted(there[level]).index((loss, trial))
        is_let_through = rank < len(there[level]) // eta or len(there[level]) < eta
        goes_on = level < high and loss < math.inf and is_let_through
        assert decision is (Decision.CONTINUE if goes_on else Decision.STOP)
        assert trial not in stopped, "who was stopped never comes back"
        if goes_on:
            through[level].add(trial)
            running[trial] = asha.milestone(trial, level)
        else:
            stopped.add(trial)
            asha.ended(trial)
        assert asha.promotable() is None
    assert stopped == set(range(len(losses)))
    for below, above in pairwise(levels):
        assert {trial for _, trial in there[above]} == through[below]
    assert [rung["promoted"] for rung in asha.rungs()] == [len(through[level]) for level in levels]

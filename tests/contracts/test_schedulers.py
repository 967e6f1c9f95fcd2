"""One suite for every scheduler: each sentence of the port's docstrings is a test."""

import json
import math
import random

import pytest

from orchestrator.domain.errors import InvalidSpecification
from orchestrator.domain.specification import SCHEDULERS, SchedulerSpecification
from orchestrator.domain.trials import Decision
from orchestrator.schedulers import make_scheduler

HIGH = 27


KINDS = {**{kind: {"kind": kind} for kind in SCHEDULERS}, "asha that stops": {"kind": "asha", "mode": "stop"}}


@pytest.fixture(params=KINDS)
def make(request):
    specification = SchedulerSpecification.from_dict(KINDS[request.param] | {"min": 1, "max": HIGH, "eta": 3})
    return lambda: make_scheduler(specification)


def run(scheduler, losses, calls=None, trials=40):
    """Runs trials one after another, promotions first, and notes every call that changes the scheduler."""
    calls = [] if calls is None else calls
    waiting, fresh, answers = set(), iter(range(trials)), []

    def tell(name, *arguments):
        calls.append((name, arguments))
        getattr(scheduler, name)(*arguments)

    while True:
        promoted = scheduler.promotable()
        if promoted is not None:
            trial, step = promoted
            assert trial in waiting
            waiting.remove(trial)
            tell("resumed", trial)
        else:
            trial, step = next(fresh, None), 0
            if trial is None:
                return answers
        decision = Decision.CONTINUE
        while decision is Decision.CONTINUE:
            step = scheduler.milestone(trial, step)
            tell("recorded", trial, step, losses(trial, step))
            decision = scheduler.judge(trial, step)
            tell("decided", trial, step, decision)
            answers.append((trial, step, decision))
        if decision is Decision.PAUSE:
            waiting.add(trial)
        else:
            tell("ended", trial)


def noisy(seed):
    return lambda trial, step: (
        random.Random(f"{seed}/{trial}").random() + random.Random(f"{trial}/{step}").random() / step
    )


def test_a_milestone_is_above_the_step_and_leads_to_the_maximum(make):
    scheduler = make()
    step, levels = 0, []
    while step < HIGH:
        level = scheduler.milestone(0, step)
        assert level > step
        assert all(scheduler.milestone(0, between) == level for between in range(step, level))
        levels.append(level)
        step = level
    assert levels[-1] == HIGH


def test_a_trial_at_the_maximum_is_stopped(make):
    scheduler = make()
    scheduler.recorded(0, HIGH, 0.1)
    assert scheduler.judge(0, HIGH) is Decision.STOP
    assert scheduler.judge(0, HIGH + 1) is Decision.STOP


def test_asking_changes_nothing(make):
    scheduler = make()
    for trial in range(5):
        scheduler.recorded(trial, scheduler.milestone(trial, 0), float(trial))
        scheduler.decided(trial, scheduler.milestone(trial, 0), scheduler.judge(trial, scheduler.milestone(trial, 0)))
    level = scheduler.milestone(0, 0)
    answers = [(scheduler.judge(1, level), scheduler.promotable(), scheduler.rungs()) for _ in range(3)]
    assert answers[0] == answers[1] == answers[2]


def test_every_trial_comes_to_an_end_or_waits(make):
    answers = run(make(), noisy(0))
    assert {trial for trial, _, _ in answers} == set(range(40))
    assert any(step == HIGH and decision is Decision.STOP for _, step, decision in answers)


def test_a_replay_of_the_calls_gives_the_same_state_and_answers(make):
    live, calls = make(), []
    run(live, noisy(1), calls)
    for length in (len(calls) // 3, len(calls) // 2, len(calls)):
        left, right = make(), make()
        for name, arguments in calls[:length]:
            getattr(left, name)(*arguments)
            getattr(right, name)(*arguments)
            right.promotable()  # asking in between makes no difference
        assert left.rungs() == right.rungs()
        assert left.promotable() == right.promotable()
    assert left.rungs() == live.rungs()


def test_another_one_that_takes_over_what_it_was_told_goes_on_alike(make):
    calls = []
    run(make(), noisy(3), calls)
    calls.append(("recorded", (40, make().milestone(40, 0), math.inf)))
    for length in (0, len(calls) // 3, len(calls) // 2, len(calls)):
        live, other = make(), make()
        for name, arguments in calls[:length]:
            getattr(live, name)(*arguments)
        other.restore(json.loads(json.dumps(live.told(), allow_nan=False)))
        for name, arguments in calls[length:]:
            assert other.promotable() == live.promotable()
            assert other.rungs() == live.rungs()
            for scheduler in (live, other):
                getattr(scheduler, name)(*arguments)
            if name == "recorded":
                assert other.judge(*arguments[:2]) == live.judge(*arguments[:2])
        assert json.dumps(other.told()) == json.dumps(live.told())


def test_who_ended_is_not_promotable_and_what_it_recorded_stays(make):
    scheduler = make()
    level = scheduler.milestone(0, 0)
    for trial in range(3):
        scheduler.recorded(trial, level, float(trial))
        scheduler.decided(trial, level, Decision.PAUSE if level < HIGH else Decision.STOP)
    scheduler.ended(0)
    promoted = []
    while (found := scheduler.promotable()) is not None:
        promoted.append(found[0])
        scheduler.resumed(found[0])
    assert 0 not in promoted
    assert scheduler.rungs()[0]["trials"] == 3


def test_losses_that_are_not_finite_are_never_promoted(make):
    scheduler = make()
    answers = run(scheduler, lambda trial, step: math.inf)
    assert all(rung["promoted"] == 0 for rung in scheduler.rungs())
    assert all(decision is Decision.STOP for _, _, decision in answers)


def test_rungs_are_plain_data_from_low_to_high(make):
    scheduler = make()
    run(scheduler, noisy(2))
    rungs = scheduler.rungs()
    assert [rung["resource"] for rung in rungs] == sorted({rung["resource"] for rung in rungs})
    assert rungs[-1]["resource"] == HIGH
    assert all(set(rung) == {"resource", "trials", "promoted"} for rung in rungs)
    assert all(0 <= rung["promoted"] <= rung["trials"] for rung in rungs)


def test_an_unknown_scheduler_is_refused_with_the_nearest_name():
    with pytest.raises(InvalidSpecification, match=r"given 'ahsa'; it is one of asha, none. Did you mean 'asha'\?"):
        make_scheduler(SchedulerSpecification(kind="ahsa"))


def test_a_trial_that_cannot_wait_is_never_paused_and_goes_on_while_it_has_nobody_to_be_compared_with(make):
    scheduler = make()
    level = scheduler.milestone(0, 0)
    decisions = []
    for trial in range(30):
        scheduler.recorded(trial, level, float(trial % 7))
        decisions.append(scheduler.judge(trial, level, can_wait=False))
        scheduler.decided(trial, level, decisions[-1])
    assert Decision.PAUSE not in decisions
    if level < HIGH:
        assert decisions[:2] == [Decision.CONTINUE, Decision.CONTINUE]
        assert {Decision.STOP, Decision.CONTINUE} == set(decisions[2:])
    assert scheduler.promotable() is None

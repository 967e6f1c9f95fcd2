"""ASHA's own rules, by the paper's algorithm 2."""

import math

import pytest

from orchestrator.domain.errors import InvalidTransition
from orchestrator.domain.trials import Decision
from orchestrator.schedulers import Asha, NoEarlyStopping, rung_levels


def arrive(asha, trial, loss, step=1):
    asha.recorded(trial, step, loss)
    decision = asha.judge(trial, step)
    asha.decided(trial, step, decision)
    return decision


@pytest.mark.parametrize(
    ("low", "high", "eta", "levels"),
    [
        (1, 27, 3, [1, 3, 9, 27]),
        (1, 26, 3, [1, 3, 9, 26]),
        (1, 28, 3, [1, 3, 9, 27, 28]),
        (1, 243, 3, [1, 3, 9, 27, 81, 243]),
        (1, 1000, 10, [1, 10, 100, 1000]),
        (2, 59049, 3, [2 * 3**k for k in range(10)] + [59049]),
        (5, 5, 3, [5]),
        (1, 1, 2, [1]),
    ],
)
def test_levels_are_whole_powers_and_the_maximum(low, high, eta, levels):
    assert rung_levels(low, high, eta) == levels


def test_nobody_is_promoted_before_eta_trials_are_recorded():
    asha = Asha(1, 27, 3)
    assert [arrive(asha, trial, loss) for trial, loss in enumerate([0.3, 0.2])] == [Decision.PAUSE] * 2
    assert asha.promotable() is None


def test_the_best_third_goes_on_at_once_or_is_promotable_later():
    asha = Asha(1, 27, 3)
    arrive(asha, 0, 0.1)
    arrive(asha, 1, 0.3)
    assert arrive(asha, 2, 0.2) is Decision.PAUSE
    assert asha.promotable() == (0, 1)
    asha.resumed(0)
    assert asha.promotable() is None, "a promoted trial takes the one place"
    assert arrive(asha, 3, 0.05) is Decision.CONTINUE
    assert asha.rungs()[0] == {"resource": 1, "trials": 4, "promoted": 2}


def test_a_promoted_trial_that_fell_out_of_the_best_takes_no_place():
    asha = Asha(1, 27, 3)
    for trial, loss in enumerate([0.5, 0.6, 0.7]):
        arrive(asha, trial, loss)
    asha.resumed(0)
    assert [arrive(asha, trial, loss) for trial, loss in ((3, 0.1), (4, 0.9), (5, 0.2))] == [
        Decision.CONTINUE,
        Decision.PAUSE,
        Decision.CONTINUE,
    ]


def test_ties_go_to_the_lower_trial_number():
    asha = Asha(1, 27, 3)
    for trial in (2, 1, 0):
        asha.recorded(trial, 1, 0.5)
        asha.decided(trial, 1, Decision.PAUSE)
    assert asha.promotable() == (0, 1)


def test_the_highest_rung_comes_first():
    asha = Asha(1, 9, 2)
    for trial in range(8):
        asha.recorded(trial, 1, float(trial))
        asha.decided(trial, 1, Decision.PAUSE)
    for trial in range(2):
        asha.resumed(trial)
        assert arrive(asha, trial, 1.0 - trial / 2, step=2) is (Decision.PAUSE if trial == 0 else Decision.CONTINUE)
    assert asha.promotable() == (2, 1)
    asha.resumed(2)
    asha.recorded(2, 2, 0.7)
    asha.decided(2, 2, Decision.PAUSE)
    asha.resumed(3)
    asha.recorded(3, 2, 2.0)
    asha.decided(3, 2, Decision.PAUSE)
    assert asha.promotable() == (2, 2)


def test_diverged_trials_count_in_their_rung_and_stop_there():
    asha = Asha(1, 27, 3)
    assert [arrive(asha, trial, math.inf) for trial in range(3)] == [Decision.STOP] * 3
    assert asha.promotable() is None
    assert arrive(asha, 3, 1.0) is Decision.CONTINUE, "4 recorded: one place"


def test_a_trial_that_ended_keeps_its_place_in_the_ranking():
    asha = Asha(1, 27, 3)
    for trial in range(3):
        arrive(asha, trial, float(trial))
    asha.ended(0)
    assert asha.promotable() is None
    asha.ended(0)


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (lambda asha: asha.recorded(0, 1, 0.2), "trial 0 was recorded at resource 1 before"),
        (lambda asha: asha.recorded(1, 2, 0.2), "step 2 is no milestone; trials are judged at 1, 3, 9, 27"),
        (lambda asha: asha.judge(1, 1), "trial 1 has no value at resource 1; record it first"),
        (lambda asha: asha.resumed(1), "trial 1 waits in no rung"),
    ],
)
def test_a_call_out_of_order_is_a_fault_that_is_named(mistake, message):
    asha = Asha(1, 27, 3)
    arrive(asha, 0, 0.1)
    with pytest.raises(InvalidTransition, match=message):
        mistake(asha)


def test_milestones_behind_the_maximum_stay_there():
    assert Asha(1, 27, 3).milestone(0, 27) == 27
    assert NoEarlyStopping(27).milestone(0, 3) == 27


def test_without_early_stopping_a_trial_goes_on_below_the_maximum():
    scheduler = NoEarlyStopping(27)
    assert scheduler.judge(0, 5) is Decision.CONTINUE
    scheduler.recorded(0, 5, 0.1)
    scheduler.resumed(0)
    assert scheduler.rungs() == [{"resource": 27, "trials": 0, "promoted": 0}]


# --- the stopping variant ------------------------------------------------------------------------------------------


def test_a_trial_that_is_not_among_the_best_on_arrival_is_stopped_for_good():
    asha = Asha(1, 27, 3, stops=True)
    decisions = [arrive(asha, trial, loss) for trial, loss in enumerate([0.5, 0.6, 0.4, 0.7, 0.45, 0.1])]
    assert decisions == [
        Decision.CONTINUE,  # with fewer than eta there is nothing to compare it with
        Decision.CONTINUE,
        Decision.CONTINUE,  # the best of three
        Decision.STOP,
        Decision.STOP,  # the second of five, of whom one may go on
        Decision.CONTINUE,
    ]
    assert asha.promotable() is None
    for trial in range(6, 30):
        arrive(asha, trial, 1.0)
    assert asha.promotable() is None, "with thirty there the second best would be among the top"
    assert asha.rungs()[0] == {"resource": 1, "trials": 30, "promoted": 4}


def test_where_trials_are_stopped_only_the_end_of_a_study_makes_one_wait_and_it_goes_on():
    asha = Asha(1, 27, 3, stops=True)
    asha.recorded(0, 1, 0.5)
    assert asha.judge(0, 1) is Decision.CONTINUE
    asha.decided(0, 1, Decision.PAUSE)  # the study was ending
    for trial in range(1, 9):
        arrive(asha, trial, 0.1)
    assert asha.promotable() == (0, 1), "it was let through when it arrived"
    asha.resumed(0)
    assert asha.promotable() is None


def test_where_trials_are_stopped_the_maximum_and_infinity_stop_too():
    asha = Asha(1, 3, 3, stops=True)
    assert arrive(asha, 0, math.inf) is Decision.STOP
    asha.recorded(1, 3, 0.1)
    assert asha.judge(1, 3) is Decision.STOP

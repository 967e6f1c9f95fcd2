"""Time: the trial's timeout, the study's budget over all its lives, and the grace at the end."""

import pytest

from orchestrator.domain.events import Ended, Interrupted
from orchestrator.domain.trials import Decision, TrialState
from orchestrator.study import Phase, status
from orchestrator.study.leases import GRACE_SECONDS

LONG = {"kind": "none", "max": 100}


@pytest.fixture
def timed(make_lab):
    return make_lab(timeout=30, failures={"crashes": 1}, scheduler=LONG)


def test_a_trial_that_says_nothing_for_too_long_fails_and_its_worker_is_fenced(timed):
    timed.ask()
    timed.tick(30)
    assert timed.state.trials[0].state is TrialState.RUNNING
    timed.tick(1)
    trial = timed.state.trials[0]
    assert trial.state is TrialState.FAILED, "it may try again"
    assert trial.failures[0].message == "trial 0 said nothing for 31 s (timeout: 30 s)"
    assert timed.study.fenced == {"w"}
    assert timed.ask("v") == [0]


def test_a_trial_that_reports_is_not_silent(timed):
    timed.ask()
    for _ in range(4):
        timed.tick(20)
        timed.say(0, 0.5)
    assert timed.state.trials[0].state is TrialState.RUNNING


def test_a_hanging_trial_costs_its_neighbours_nothing(timed):
    timed.ask(room=2)
    timed.tick(20)
    timed.say(1, 0.5)
    timed.tick(20)
    hanging, neighbour = timed.state.trials
    assert hanging.state is TrialState.FAILED
    assert (neighbour.state, neighbour.failures) == (TrialState.PAUSED, [])
    assert timed.ask("v", room=2) == [0, 1]


def test_while_the_study_itself_was_away_nobody_was_silent(timed):
    timed.ask()
    timed.now += 500
    timed.restart()
    timed.tick(1)
    assert timed.state.trials[0].state is TrialState.RUNNING
    timed.tick(30)
    assert timed.state.trials[0].state is TrialState.FAILED


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_clock_that_was_set_between_two_lives_hides_no_silence(timed, jump):
    timed.ask()
    timed.now += jump
    timed.restart()
    timed.tick(30)
    assert timed.state.trials[0].state is TrialState.RUNNING
    timed.tick(1)
    assert timed.state.trials[0].state is TrialState.FAILED
    assert timed.state.trials[0].failures[0].message == "trial 0 said nothing for 31 s (timeout: 30 s)"


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_clock_that_was_set_between_two_lives_prolongs_no_end(timed, jump):
    timed.ask()
    timed.write(timed.study.stop(timed.now))
    timed.now += jump
    timed.restart()
    timed.tick(GRACE_SECONDS)
    assert timed.state.phase is Phase.ENDING
    timed.tick(1)
    assert timed.state.phase is Phase.ENDED


def test_the_budget_of_time_ends_the_study_and_sends_the_trials_away(make_lab):
    lab = make_lab(budget={"trials": 100, "time": 60}, scheduler=LONG)
    lab.ask(room=2)
    lab.tick(59)
    assert lab.state.phase is Phase.RUNNING
    lab.tick(1)
    assert (lab.state.phase, lab.state.reason) == (Phase.ENDING, "time")
    assert lab.ask("v") == []
    assert lab.say(0, 0.5) is Decision.PAUSE, "it has a checkpoint"
    assert lab.say(1, 0.6, saves=False) is Decision.STOP, "it has none, and cannot wait"
    assert lab.state.phase is Phase.ENDED
    assert lab.send().release


def test_the_budget_of_time_counts_all_lives_and_not_the_time_between_them(make_lab):
    lab = make_lab(budget={"time": 60}, scheduler=LONG)
    lab.ask()
    lab.tick(25)
    lab.say(0, 0.5)
    lab.now += 3600
    lab.restart()
    assert lab.state.seconds_used(lab.now) == pytest.approx(25)
    lab.tick(30)
    assert lab.state.phase is Phase.RUNNING
    assert status(lab.state, lab.now)["seconds_left"] == pytest.approx(5)
    lab.tick(5)
    assert lab.state.reason == "time"


def test_a_clock_that_begins_at_zero_is_a_clock(make_lab):
    lab = make_lab(budget={"time": 60})
    lab.now = 0.0
    lab.journal.clear()
    lab.study = lab.replayed()
    lab.write(lab.study.create(0.0, defaults=None, code_sha256="", versions={}))
    lab.write(lab.study.open(0.0, epoch=1, writer="w"))
    assert lab.state.seconds_used(10.0) == 10.0


def test_after_the_end_late_trials_have_a_grace_and_are_then_taken_back(make_lab):
    lab = make_lab(budget={"trials": 9, "time": 60}, scheduler=LONG)
    lab.ask(room=2)
    lab.tick(60)
    lab.say(1, 0.5)
    lab.tick(GRACE_SECONDS)
    assert lab.state.trials[0].state is TrialState.RUNNING
    lab.tick(1)
    assert lab.state.trials[0].state is TrialState.WAITING
    assert "15 s after the study's end" in lab.events(Interrupted)[0].cause
    assert lab.state.phase is Phase.ENDED
    assert len(lab.events(Ended)) == 1
    assert lab.send("w").fenced


def test_the_grace_begins_anew_with_the_study_actor(make_lab):
    lab = make_lab(scheduler=LONG)
    lab.ask()
    lab.write(lab.study.stop(lab.now))
    lab.now += 100
    lab.restart()
    lab.tick(1)
    assert lab.state.trials[0].state is TrialState.RUNNING
    lab.tick(GRACE_SECONDS)
    assert lab.state.phase is Phase.ENDED


def test_the_time_between_an_end_and_its_reopening_is_nobodys(make_lab):
    lab = make_lab(budget={"trials": 9, "time": 60}, scheduler=LONG)
    lab.tick(10)
    lab.write(lab.study.stop(lab.now))
    assert lab.state.phase is Phase.ENDED
    lab.now += 1000
    lab.write(lab.study.reopen(lab.now))
    assert lab.state.seconds_used(lab.now) == pytest.approx(10, abs=10)
    lab.tick(1)
    assert lab.state.phase is Phase.RUNNING

"""From the first trial to the end: budgets, orders, judgement at milestones, ends and new beginnings."""

import pytest

from orchestrator.domain.errors import ExchangeRefused, InvalidSpecification
from orchestrator.domain.events import Decided, Reopened
from orchestrator.domain.exchange import Message, Progress
from orchestrator.domain.specification import DEFAULT_TRIALS, Budget
from orchestrator.domain.trials import Decision, TrialState
from orchestrator.study import Phase, savings, status, trial_details


def run_all(lab, loss=lambda trial, step: trial + 1 / step, worker="w"):
    """One worker that behaves, to the end; returns how many exchanges it took."""
    turns = 0
    while not (answer := lab.send(worker)).release:
        turns += 1
        for run in answer.runs:
            until, decision = run.until, Decision.CONTINUE
            while decision is Decision.CONTINUE:
                last = lab.state.trials[run.trial].last_step
                decision = lab.say(run.trial, *(loss(run.trial, s) for s in range(last + 1, until + 1)), worker=worker)
                until = lab.state.trials[run.trial].until
    return turns


def test_a_study_without_limits_has_a_hundred_trials():
    assert Budget().most_trials == DEFAULT_TRIALS
    assert Budget(None, 60.0).most_trials == float("inf")
    assert Budget(7, 60.0).most_trials == 7


def test_a_study_ends_by_itself_and_releases_its_workers(lab):
    run_all(lab)
    assert (lab.state.phase, lab.state.reason) == (Phase.ENDED, "finished")
    assert len(lab.state.trials) == 9
    assert [rung["trials"] for rung in status(lab.state)["rungs"]] == [9, 3, 1]
    assert lab.send("another").release
    assert not lab.study.is_waiting_for_workers()
    assert savings(lab.state)["spent"] < savings(lab.state)["full"] == 81


def test_a_worker_waits_while_others_still_run(make_lab):
    lab = make_lab(budget={"trials": 1})
    lab.ask()
    answer = lab.send("idle")
    assert (answer.release, answer.runs) == (False, ())
    assert answer.wait_seconds > 0
    lab.say(0, 1.0)
    assert lab.send("idle").release


def test_the_default_configuration_is_trial_zero_and_runs_to_its_end(make_lab):
    lab = make_lab(defaults={"x": 7.0})
    assert lab.ask() == [0]
    first = lab.state.trials[0]
    assert (first.origin, first.params) == ("default", {"x": 1.0}), "brought to the nearest bound"
    run_all(lab, loss=lambda trial, step: 100.0 if trial == 0 else trial)
    assert first.last_step == 9
    assert first.state is TrialState.COMPLETE
    assert status(lab.state)["default"]["value"] == 100.0


def test_users_trials_come_before_the_searchs_in_their_order(lab):
    lab.write(lab.study.enqueue({"x": 0.25}, lab.now))
    lab.write(lab.study.enqueue({"x": 0.75}, lab.now))
    lab.restart()
    assert lab.ask(room=3) == [0, 1, 2]
    assert [(t.origin, t.params["x"]) for t in lab.state.trials[:2]] == [("user", 0.25), ("user", 0.75)]
    assert lab.state.trials[2].origin == "search"


def test_promotions_come_before_new_trials(lab):
    lab.ask(room=3)
    for trial, loss in enumerate((0.1, 0.5, 0.9)):
        lab.say(trial, loss)
    assert lab.ask() == [0]
    assert lab.ask("v") == [3]


def test_a_function_that_passes_over_a_milestone_is_judged_there(make_lab):
    lab = make_lab(scheduler={"kind": "asha", "min": 1, "max": 27, "eta": 3})
    lab.ask(room=3)
    decisions = [
        lab.send(progress=[Progress(t, 0, ((5, {"loss": loss}),), None)], room=0).verdicts[t].decision
        for t, loss in ((0, 0.5), (1, 0.9), (2, 0.95))
    ]
    assert decisions == [Decision.CONTINUE, Decision.CONTINUE, Decision.STOP], "without checkpoints nobody can wait"
    assert lab.state.scheduler.rungs()[0] == {"resource": 1, "trials": 3, "promoted": 2}
    assert lab.state.trials[0].until == 9
    lab.send(progress=[Progress(0, 0, ((50, {"loss": 0.05}),))], room=0)
    assert lab.state.trials[0].state is TrialState.COMPLETE, "beyond the maximum there is nothing to judge"


def test_a_search_engine_is_told_each_level_once(lab):
    told = []
    lab.state.suggester.observed = lambda trial, resource, loss: told.append((trial, resource, loss))
    lab.ask(room=3)
    for trial, loss in ((1, 0.8), (2, 0.9), (0, 0.5)):
        lab.say(trial, loss)
    assert lab.state.trials[0].state is TrialState.RUNNING
    lab.say(0, done=True)
    assert told == [(1, 1, 0.8), (2, 1, 0.9), (0, 1, 0.5)], "the end tells nothing new of trial 0"


def test_a_stop_sends_the_trials_away_and_a_reopened_study_goes_on_with_them(make_lab):
    lab = make_lab(scheduler={"kind": "none", "max": 9})
    lab.ask(room=2)
    lab.say(0, 0.5, 0.4)
    lab.write(lab.study.stop(lab.now))
    assert lab.say(0, 0.3) is Decision.PAUSE
    assert lab.say(1, 0.6) is Decision.PAUSE
    assert (lab.state.phase, lab.state.reason) == (Phase.ENDED, "stopped")
    lab.restart()
    assert lab.send("v").release, "an end by hand is an end until somebody reopens it"
    lab.write(lab.study.reopen(lab.now))
    assert lab.ask("v", room=2) == [0, 1]
    assert lab.events(Decided)[-1].step == 1


def test_a_study_that_came_to_its_end_is_not_reopened_within_the_same_budget(lab):
    run_all(lab)
    lab.restart()
    assert lab.study.reopen(lab.now) == []
    assert lab.state.phase is Phase.ENDED


def test_a_larger_budget_reopens_a_finished_study(lab):
    run_all(lab)
    lab.restart(budget={"trials": 12})
    assert lab.state.specification.budget.trials == 9, "until it is reopened its old budget stands"
    lab.write(lab.study.reopen(lab.now))
    run_all(lab, worker="v")
    assert len(lab.state.trials) == 12
    lab.restart(budget={"trials": 12})
    assert status(lab.state)["budget"]["trials"] == 12
    lab.restart(budget={"trials": 15})
    lab.write(lab.study.reopen(lab.now))
    assert lab.ask("u") == [12], "the budget of this life counts, not that of an earlier reopening"


def test_a_study_is_extended_while_it_runs_and_after_its_end(lab):
    lab.write(lab.study.extend(lab.now, trials=12, seconds=None))
    run_all(lab)
    assert len(lab.state.trials) == 12
    lab.write(lab.study.extend(lab.now, trials=14, seconds=None))
    run_all(lab, worker="v")
    assert len(lab.state.trials) == 14


def test_an_extended_budget_outlives_the_writer(lab):
    lab.write(lab.study.extend(lab.now, trials=12, seconds=None))
    lab.restart()
    assert lab.state.specification.budget.trials == 12
    run_all(lab, worker="v")
    assert len(lab.state.trials) == 12


@pytest.mark.parametrize("trials", [9, 5])
def test_an_extension_gives_more(lab, trials):
    with pytest.raises(InvalidSpecification, match="9 trials"):
        lab.study.extend(lab.now, trials=trials, seconds=None)


def test_a_study_that_time_ended_goes_on_with_more_time_only(make_lab):
    lab = make_lab(budget={"trials": 9, "time": 10})
    lab.tick(10)
    assert lab.state.phase is Phase.ENDED
    lab.restart()
    assert lab.study.reopen(lab.now) == []
    lab.restart(budget={"trials": 9, "time": 20})
    lab.write(lab.study.reopen(lab.now))
    assert lab.ask() == [0]
    assert lab.state.reason == ""


def test_a_running_study_takes_the_budget_of_whoever_runs_it_on(lab):
    lab.restart(budget={"trials": 2})
    assert lab.state.specification.budget.trials == 9, "an actor that comes back by itself changes nothing"
    for _ in range(2):
        lab.write(lab.study.reopen(lab.now))
    assert [event.trials for event in lab.events(Reopened)] == [2]
    run_all(lab)
    assert len(lab.state.trials) == 2


def test_a_worker_that_has_heard_of_a_later_writer_is_refused(lab):
    with pytest.raises(ExchangeRefused, match="epoch 1 of the study is over; epoch 2 has begun"):
        lab.study.exchange(Message("w", epoch=2), lab.now)


def test_several_trials_are_held_at_once_only_where_workers_stand_side_by_side(lab):
    assert lab.send(room=0).batch == 1
    lab.study.workers = 2
    assert lab.send(room=0).batch > 1


def test_what_is_shown_of_a_trial_is_plain(lab):
    lab.ask()
    lab.say(0, 0.5, accuracy=0.75)
    details = trial_details(lab.state.trials[0])
    assert details["reports"] == [{"step": 1, "loss": 0.5, "accuracy": 0.75}]
    assert details["checkpoint"]["step"] == 1
    assert (details["worker"], details["state"]) == ("w", "paused")

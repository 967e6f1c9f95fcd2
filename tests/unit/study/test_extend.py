"""More for a study: budgets that an older file does not take back, and wider spaces that keep what was learnt."""

import pytest

from orchestrator.domain.errors import InvalidSpace, InvalidSpecification
from orchestrator.domain.events import Extended, Reopened
from orchestrator.domain.space import Space
from orchestrator.study import Phase, status, trial_details
from orchestrator.study.identity import current, differences, what_to_do

ONE_STEP = {"scheduler": {"kind": "none", "max": 1}}
WIDER = Space.from_dict(
    {
        "x": {"min": -1.0, "max": 3.0},
        "kind": {"values": ["plain", "rich"], "default": "plain"},
        "depth": {"min": 1, "max": 4, "when": {"kind": "rich"}},
    }
)
GRID = {"space": {"x": {"min": 1, "max": 3}}, "search": "grid", **ONE_STEP}


def finish(lab, worker="w"):
    while order := lab.ask(worker):
        lab.say(order[0], abs(float(lab.state.trials[order[0]].params["x"]) - 0.5), worker=worker)


def extend(lab, **more):
    return lab.write(lab.study.extend(lab.now, **more))


# --- budgets -------------------------------------------------------------------------------------------------------


def test_the_old_budget_asked_for_again_takes_nothing_back(make_lab):
    lab = make_lab(**ONE_STEP)
    extend(lab, trials=12)
    lab.restart()
    assert lab.specification.budget.trials == 9, "the file is the old one"
    assert lab.study.reopen(lab.now) == []
    finish(lab)
    assert len(lab.state.trials) == 12


@pytest.mark.parametrize("asked", [{"trials": 5}, {"trials": 9}, {"trials": 12, "time": "1m"}, {"trials": 12}])
def test_what_extend_gave_is_never_made_less_by_a_run(make_lab, asked):
    lab = make_lab(**ONE_STEP)
    finish(lab)
    extend(lab, trials=12)
    lab.restart(budget=asked)
    lab.write(lab.study.reopen(lab.now))
    assert status(lab.state)["budget"] == {"trials": 12, "seconds": None}


def test_a_run_may_ask_for_more_than_extend_gave_and_the_next_one_for_less_of_that(make_lab):
    lab = make_lab(**ONE_STEP)
    extend(lab, trials=12)
    for asked, given in ((15, 15), (13, 13), (9, 12)):
        lab.restart(budget={"trials": asked})
        lab.write(lab.study.reopen(lab.now))
        assert lab.state.specification.budget.trials == given


@pytest.mark.parametrize("budget", [{}, {"trials": None}])
def test_a_study_that_named_no_budget_is_extended_beyond_its_hundred_trials(make_lab, budget):
    lab = make_lab(budget=budget)
    with pytest.raises(InvalidSpecification, match="may spend 100 trials already, and 100 trials is not more"):
        lab.study.extend(lab.now, trials=100)
    extend(lab, trials=200)
    assert lab.state.specification.budget.trials == 200


def test_a_limit_where_there_was_none_is_no_extension(lab):
    with pytest.raises(InvalidSpecification, match=r"9 trials already, and 9 trials in 60 s is not more"):
        lab.study.extend(lab.now, seconds=60.0)


def test_more_trials_alone_do_not_wake_a_study_whose_time_is_over(make_lab):
    lab = make_lab(budget={"trials": 9, "time": 10})
    lab.tick(10)
    assert [type(event) for event in extend(lab, trials=20)] == [Extended]
    assert (lab.state.phase, lab.state.reason) == (Phase.ENDED, "time")
    assert [type(event) for event in extend(lab, seconds=20.0)] == [Extended, Reopened]
    assert lab.ask()


# --- spaces --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["random", "sobol", "tpe"])
def test_a_study_that_runs_goes_on_in_the_wider_space(make_lab, engine):
    lab = make_lab(search=engine, budget={"trials": 60}, **ONE_STEP)
    for _ in range(15):
        lab.say(lab.ask()[0], 0.5)
    held = lab.ask()
    extend(lab, space=WIDER)
    assert lab.say(held[0], 0.4) == "stop", "who runs goes on"
    assert lab.state.trials[held[0]].reports == [(1, {"loss": 0.4})]
    finish(lab)
    later = [trial.params for trial in lab.state.trials[16:]]
    assert len(later) == 44
    assert any(not 0 <= params["x"] <= 1 for params in later)
    assert {params["kind"] for params in later} == {"plain", "rich"}
    for trial in lab.state.trials:
        WIDER.validate(trial.params)


def test_older_trials_had_the_defaults_of_what_is_new(make_lab):
    lab = make_lab(**ONE_STEP)
    finish(lab)
    before = [trial.params["x"] for trial in lab.state.trials]
    best = lab.state.best.number
    extend(lab, trials=12, space=WIDER)
    assert [trial.params for trial in lab.state.trials] == [{"x": x, "kind": "plain"} for x in before]
    assert status(lab.state)["best"]["params"] == {"x": before[best], "kind": "plain"}
    assert trial_details(lab.state.trials[0])["params"]["kind"] == "plain"
    assert status(lab.state)["widened"] == [{"at": lab.now, "first_trial": 9}]


def test_the_journal_says_which_space_held_when(make_lab):
    lab = make_lab(budget={"trials": 2}, **ONE_STEP)
    finish(lab)
    extend(lab, trials=4, space=WIDER)
    lab.now += 5
    finish(lab)
    lab.restart()
    held = lab.state.spaces
    assert [(h.first_trial, h.at) for h in held] == [(0, 1000.0), (2, 1000.0)]
    assert [h.space for h in held] == [Space.from_dict({"x": {"min": 0.0, "max": 1.0}}), WIDER]
    [event] = lab.events(Extended)
    assert Space.from_dict(event.space) == WIDER


def test_a_paused_trial_that_is_promoted_afterwards_runs_with_the_defaults(make_lab):
    lab = make_lab(scheduler={"kind": "asha", "min": 1, "max": 9, "eta": 3}, budget={"trials": 3})
    for loss in (0.1, 0.2, 0.3):
        lab.say(lab.ask()[0], loss)
    extend(lab, space=WIDER)
    [run] = lab.send(room=1).runs
    assert run.trial == 0
    assert run.params == {"x": lab.state.trials[0].params["x"], "kind": "plain"}
    assert run.checkpoint.step == 1


def test_trials_that_nobody_has_begun_come_from_the_wider_space_too(make_lab):
    lab = make_lab(defaults={"x": 0.5}, **ONE_STEP)
    lab.write(lab.study.enqueue({"x": 0.25}, lab.now))
    extend(lab, space=WIDER)
    lab.write(lab.study.enqueue({"x": 2.0}, lab.now))
    assert [run.params for run in lab.send(room=2).runs] == [{"x": 0.25, "kind": "plain"}, {"x": 2.0, "kind": "plain"}]


def test_the_trainables_defaults_are_completed_in_the_wider_space(make_lab):
    lab = make_lab(defaults={"x": 0.5}, **ONE_STEP)
    extend(lab, space=WIDER)
    assert [run.params for run in lab.send(room=1).runs] == [{"x": 0.5, "kind": "plain"}]


def test_an_exhausted_grid_goes_on_with_what_is_new_in_a_wider_one(make_lab):
    lab = make_lab(**GRID)
    finish(lab)
    assert lab.state.reason == "exhausted"
    assert [type(event) for event in extend(lab, trials=20)] == [Extended], "there is nothing to spend it on"
    assert lab.state.phase is Phase.ENDED
    extend(lab, space=Space.from_dict({"x": {"min": 0, "max": 5}}))
    finish(lab)
    assert [trial.params["x"] for trial in lab.state.trials] == [1, 2, 3, 0, 4, 5]
    assert (lab.state.phase, lab.state.reason) == (Phase.ENDED, "exhausted")


def test_a_wider_space_alone_does_not_wake_a_study_whose_trials_are_done(make_lab):
    lab = make_lab(**ONE_STEP)
    finish(lab)
    assert [type(event) for event in extend(lab, space=WIDER)] == [Extended]
    assert lab.state.phase is Phase.ENDED
    extend(lab, trials=12)
    finish(lab)
    assert all(set(trial.params) >= {"x", "kind"} for trial in lab.state.trials)


def test_several_widenings_follow_each_other(make_lab):
    lab = make_lab(budget={"trials": 3}, **ONE_STEP)
    for high in (2.0, 4.0, 8.0):
        finish(lab)
        extend(lab, trials=len(lab.state.trials) + 3, space=Space.from_dict({"x": {"min": 0.0, "max": high}}))
    assert [held.first_trial for held in lab.state.spaces] == [0, 3, 6, 9]


def test_what_is_no_wider_space_is_refused_and_changes_nothing(make_lab):
    lab = make_lab(**GRID)
    length = len(lab.journal)
    with pytest.raises(InvalidSpace, match="'x' went from 1 to 3 and now goes from 2 to 9"):
        lab.study.extend(lab.now, space=Space.from_dict({"x": {"min": 2, "max": 9}}))
    with pytest.raises(InvalidSpecification, match="has that space already"):
        lab.study.extend(lab.now, trials=20, space=lab.state.specification.space)
    real = Space.from_dict({"x": {"min": 1, "max": 3}, "y": {"min": 0.0, "max": 1.0, "default": 0.0}})
    with pytest.raises(InvalidSpecification, match="grid cannot go through the continuous parameter 'y'"):
        lab.study.extend(lab.now, space=real)
    with pytest.raises(InvalidSpecification, match="9 trials"):
        lab.study.extend(lab.now, trials=3, space=Space.from_dict({"x": {"min": 1, "max": 4}}))
    assert (len(lab.journal), lab.state.specification.space) == (length, lab.specification.space)


# --- the file that is older ----------------------------------------------------------------------------------------


def test_an_older_file_describes_the_study_still_and_what_it_was_given_is_said(make_lab):
    lab = make_lab(**ONE_STEP)
    finish(lab)
    extend(lab, trials=12, space=WIDER)
    asked = lab.specification
    assert differences(lab.state, asked) == []
    found, word = current(lab.state, asked)
    assert (found.budget.trials, found.space) == (12, WIDER)
    assert word == (
        "study 'bowl' was extended: it may spend 12 trials, not 9 trials; "
        "its space is the wider one that it has from trial 9 on (since 1970-01-01 00:16 UTC)"
    )
    edited = asked.with_changes(space=WIDER, budget=found.budget)
    assert differences(lab.state, edited) == []
    assert current(lab.state, edited) == (edited, "")


def test_a_file_with_a_wider_space_is_told_how_to_widen_and_a_narrower_one_that_it_is_another(make_lab):
    lab = make_lab()
    wider = lab.specification.with_changes(space=WIDER)
    assert differences(lab.state, wider) == ["space"]
    assert "`orchestrator extend bowl --space FILE`" in what_to_do(lab.state, wider, ["space"])
    narrower = lab.specification.with_changes(space=Space.from_dict({"x": {"min": 0.5, "max": 1.0}}))
    assert differences(lab.state, narrower) == ["space"]
    assert "extend" not in what_to_do(lab.state, narrower, ["space"])

"""`Study.extend`: more trials and wider spaces from Python."""

import pytest

from orchestrator import Choice, Float, Int, Study
from orchestrator.domain.errors import InvalidSpace, InvalidSpecification, StudyBusy, UnknownStudy

OLD = {"n": Int(1, 3)}
NEW = {"n": Int(0, 5), "kind": Choice(["a", "b"], default="a")}


def objective(trial):
    return (trial.params["n"] - 2) ** 2 + (trial.params.get("kind", "a") == "a")


@pytest.fixture
def make(tmp_path):
    def make(space=OLD, **options):
        options = {"minimize": "loss", "search": "grid", "execution": "inline", "storage": tmp_path} | options
        return Study("bowl", objective, space, **options)

    return make


def test_an_ended_study_goes_on_in_a_wider_space(make):
    study = make().run(trials=3)
    assert study.best_params == {"n": 2}
    study.extend(trials=20, space=NEW)
    assert study.best_params == {"n": 2, "kind": "a"}, "what older trials had"
    study.run(trials=20)
    assert len(study.trials) == 12
    assert study.best_params == {"n": 2, "kind": "b"}


def test_an_older_script_goes_on_with_what_was_given_and_is_warned(make):
    make().run(trials=3).extend(trials=5, space=NEW)
    with pytest.warns(UserWarning, match="study 'bowl' was extended: it may spend 5 trials, not 3 trials; its space"):
        study = make().run(trials=3)
    assert len(study.trials) == 5
    assert make(NEW).run(trials=5).trials == study.trials


def test_who_names_no_budget_takes_what_there_is(make):
    study = make(search="random").run(trials=3).extend(trials=6)
    study.run()
    assert len(study.trials) == 6


def test_who_asks_and_tells_has_no_limit_and_leaves_none_to_a_later_run(make):
    study = make(search="random").run(trials=2).extend(trials=4)
    for _ in range(3):
        study.tell(study.ask(), 1.0)
    study.run(trials=6)
    assert len(study.trials) == 6


def test_a_study_in_memory_is_widened_between_ask_and_tell():
    study = Study(space={"x": Float(0, 1)}, minimize="loss", search="tpe", seed=1)
    for _ in range(12):
        trial = study.ask()
        study.tell(trial, trial.params["x"])
    held = study.ask()
    study.extend(space={"x": Float(-1, 1), "k": Int(1, 3, default=2)})
    study.tell(held, held.params["x"])
    later = [study.ask() for _ in range(20)]
    assert all(set(trial.params) == {"x", "k"} for trial in later)
    assert any(trial.params["x"] < 0 for trial in later)
    assert all(trial.params["k"] == 2 for trial in study.trials[:13])


def test_an_exhausted_grid_has_nothing_to_ask_until_it_is_widened():
    study = Study(space=OLD, minimize="loss", search="grid")
    for _ in range(3):
        study.tell(study.ask(), 1.0)
    with pytest.raises(InvalidSpecification, match="every configuration of the grid was asked for"):
        study.ask()
    study.extend(space={"n": Int(1, 4)})
    assert study.ask().params == {"n": 4}


def test_what_is_no_extension_is_refused(make):
    study = make(search="random")
    with pytest.raises(UnknownStudy, match="study 'bowl' has not begun"):
        study.extend(trials=5)
    study.run(trials=3)
    with pytest.raises(InvalidSpecification, match="takes trials, timeout or space"):
        study.extend()
    with pytest.raises(InvalidSpecification, match="3 trials already"):
        study.extend(trials=2)
    with pytest.raises(InvalidSpace, match="'n' is missing"):
        study.extend(space={"m": Int(1, 2)})
    other = make(search="random")
    other.ask()
    with pytest.raises(StudyBusy):
        study.extend(trials=9)
    other.close()

"""`Study.run` in the process at hand."""

import subprocess
import sys

import pytest

from orchestrator import Float, Study
from orchestrator.api.failing import TrialsFailed
from orchestrator.domain.errors import InvalidSpecification
from orchestrator.domain.trials import TrialState
from trainables.testing import Quadratic

SPACE = {"x": Float(-2.0, 2.0)}

TWELVE_LINES = """
from orchestrator import Float, Study

def objective(trial):
    return (trial.params["x"] - 1) ** 2

if __name__ == "__main__":
    study = Study("bowl", objective, {"x": Float(-2, 2)}, minimize="loss", search="random", execution="inline")
    study.run(trials=TRIALS)
    print(len(study.trials), study.best_value < 1, sorted(study.best_params))
"""


@pytest.fixture
def make(tmp_path):
    def make(objective, **options):
        options = {"minimize": "loss", "search": "random", "execution": "inline", "storage": tmp_path} | options
        return Study("bowl", objective, SPACE, **options)

    return make


def bowl(trial):
    return (trial.params["x"] - 1) ** 2


def test_the_twelve_lines_work_as_a_script_and_go_on_with_more_trials(tmp_path):
    def run(trials):
        (tmp_path / "tune.py").write_text(TWELVE_LINES.replace("TRIALS", trials))
        done = subprocess.run(
            [sys.executable, "-W", "error", "tune.py"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    assert run("20") == "20 True ['x']\n"
    assert run("20") == "20 True ['x']\n"


def test_a_function_is_minimised(make):
    study = make(bowl).run(trials=20)
    assert len(study.trials) == 20
    assert study.best_value == min((trial.params["x"] - 1) ** 2 for trial in study.trials)
    assert study.best_params == {"x": study.best_trial.params["x"]}


def test_more_trials_go_on_where_it_was(make):
    ran = []

    def objective(trial):
        ran.append(trial.number)
        return bowl(trial)

    study = make(objective)
    study.run(trials=5)
    study.run(trials=5)
    assert ran == [0, 1, 2, 3, 4]
    study.run(trials=8)
    assert ran == list(range(8))
    make(objective).run(trials=10)
    assert ran == list(range(10)), "also from another object of the same name"


def test_time_is_a_budget_over_all_lives(make):
    study = make(bowl)
    study.run(timeout=0.3)
    several = len(study.trials)
    assert several > 0
    study.run(timeout=0.3)
    assert len(study.trials) == several


def test_a_class_by_its_reference_begins_with_its_defaults(make):
    study = make("trainables.testing.Quadratic", scheduler={"kind": "asha", "max": 9})
    study.run(trials=6)
    first = study.trials[0]
    assert (first.origin, first.params, first.last_step) == ("default", {"x": 0.0}, 9)


def test_a_class_without_an_end_is_refused_before_anything_runs(make, tmp_path):
    with pytest.raises(InvalidSpecification, match="has no end of its own; give its steps an end"):
        make(Quadratic).run(trials=3)
    assert not list(tmp_path.iterdir())


def test_trials_that_all_fail_alike_show_the_users_traceback(make):
    def objective(trial):
        learning_rate = trial.params["x"]
        raise ValueError(f"no such rate: {learning_rate}")

    with pytest.raises(TrialsFailed) as caught:
        make(objective).run(trials=20)
    text = str(caught.value)
    assert text.startswith("the first trials all failed alike: ValueError: no such rate: ")
    assert "trial 0 had {'x': " in text
    assert 'raise ValueError(f"no such rate: {learning_rate}")' in text
    assert "orchestrator/tuning" not in text, "our own frames say nothing about it"


def test_single_failures_are_kept_and_do_not_end_it(make):
    def objective(trial):
        if trial.number % 2:
            raise ValueError("odd")
        return 1.0

    study = make(objective).run(trials=6)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE, TrialState.ABANDONED] * 3
    assert study.trials[1].failures[0].message == "ValueError: odd"


def test_another_space_under_the_same_name_is_refused(make, tmp_path):
    make(bowl).run(trials=2)
    other = Study(
        "bowl", bowl, {"x": Float(0, 9)}, minimize="loss", search="random", execution="inline", storage=tmp_path
    )
    with pytest.raises(InvalidSpecification, match="study 'bowl' exists with another space"):
        other.run(trials=4)


def test_run_needs_a_name_and_an_objective():
    with pytest.raises(InvalidSpecification, match="run needs a name and an objective"):
        Study(space=SPACE, minimize="loss").run(trials=1)


def test_what_was_run_may_be_asked_on_and_run_on(make):
    study = make(bowl)
    study.run(trials=3)
    trial = study.ask()
    assert trial.number == 3
    study.tell(trial, 0.0)
    assert study.best_value == 0.0
    study.run(trials=6)
    assert len(study.trials) == 6


def test_an_interrupt_leaves_a_study_that_the_same_call_resumes(make):
    calls = []

    def objective(trial):
        calls.append(trial.number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return bowl(trial)

    study = make(objective)
    with pytest.raises(KeyboardInterrupt):
        study.run(trials=5)
    assert len(study.trials) == 3
    study.run(trials=5)
    assert calls == [0, 1, 2, 2, 3, 4]
    assert all(trial.state is TrialState.COMPLETE for trial in study.trials)

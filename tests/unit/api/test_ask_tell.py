"""Ask and tell: the caller evaluates the trials."""

import pytest

from orchestrator import Choice, Float, Int, Study
from orchestrator.domain.errors import InvalidInput, InvalidSpace, InvalidSpecification, StudyBusy, UnknownStudy
from orchestrator.domain.trials import TrialState

SPACE = {"x": Float(0.0, 1.0), "kind": Choice(["a", "b"])}


@pytest.fixture
def make(tmp_path):
    studies = []

    def make(name=None, space=None, **options):
        options = {"minimize": "loss", "search": "random", "storage": tmp_path} | options
        studies.append(Study(name, space=space or SPACE, **options))
        return studies[-1]

    yield make
    for study in studies:
        study.close()


def test_the_example_works(make):
    study = make(seed=1)
    trial = study.ask()
    study.tell(trial, 0.3)
    assert study.best_value == 0.3
    assert study.best_params == trial.params
    assert study.best_trial.number == 0


def test_the_best_of_several_is_the_best(make):
    study = make(maximize="accuracy", minimize=None)
    for value in (0.5, 0.9, 0.7):
        study.tell(study.ask(), value)
    assert study.best_value == 0.9
    assert [trial.value for trial in study.trials] == [0.5, 0.9, 0.7]


def test_a_study_without_a_name_leaves_nothing_on_the_disk(make, tmp_path):
    study = make()
    study.tell(study.ask(), 1.0)
    assert not list(tmp_path.iterdir())


def test_several_trials_may_be_open_and_told_in_any_order(make):
    study = make()
    first, second, third = study.ask(), study.ask(), study.ask()
    assert [t.number for t in (first, second, third)] == [0, 1, 2]
    study.tell(third, 3.0)
    study.tell(first, 1.0)
    assert study.ask().number == 3
    study.tell(second, 2.0)
    assert [trial.value for trial in study.trials] == [1.0, 2.0, 3.0, None]
    assert study.best_trial.number == 0


def test_a_trial_is_told_once(make):
    study = make()
    trial = study.ask()
    study.tell(trial, 1.0)
    with pytest.raises(InvalidSpecification, match="trial 0 is not open; every trial is told once"):
        study.tell(trial, 0.0)
    assert study.best_value == 1.0


def test_metrics_may_be_told_by_name(make):
    study = make()
    study.tell(study.ask(), {"loss": 0.5, "seconds": 3})
    assert study.trials[0].last_metrics == {"loss": 0.5, "seconds": 3.0}


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"los": 0.5}, r"the metric 'loss' is needed; given \['los'\]"),
        (None, "given nothing"),
        ("low", "metrics are numbers"),
        ({"loss": None}, "metrics are numbers"),
    ],
)
def test_what_cannot_be_told_is_refused_and_the_trial_stays_open(make, told, message):
    study = make()
    trial = study.ask()
    with pytest.raises(InvalidInput, match=message):
        study.tell(trial, told)
    study.tell(trial, 0.5)
    assert study.best_value == 0.5


def test_a_trial_that_failed_is_told_so_and_the_study_goes_on_whatever_fails(make):
    study = make()
    for _ in range(10):
        study.tell(study.ask(), error="out of disk")
    trial = study.ask()
    assert trial.number == 10
    study.tell(trial, 0.5)
    assert [t.state for t in study.trials[:2]] == [TrialState.ABANDONED] * 2
    assert study.trials[0].failures[0].message == "out of disk"
    assert study.best_trial.number == 10


def test_a_failed_trial_is_asked_again_where_errors_may_be_retried(make):
    study = make(failures={"errors": 1})
    study.tell(study.ask(), error="no luck")
    again = study.ask()
    assert (again.number, again.attempt) == (0, 1)
    study.tell(again, 1.0)
    assert study.trials[0].state is TrialState.COMPLETE


def test_a_value_that_is_no_number_fails_the_trial(make):
    study = make()
    study.tell(study.ask(), float("nan"))
    assert study.trials[0].failures[0].message == "loss was nan at step 1"
    with pytest.raises(UnknownStudy, match="no trial has a value yet"):
        _ = study.best_value


def test_reports_let_the_scheduler_stop_a_trial(make):
    study = make(scheduler={"kind": "asha", "min": 1, "max": 9, "eta": 3})
    steps = {}
    for loss in (0.1, 0.5, 0.3, 0.05):
        trial = study.ask()
        while not trial.should_stop():
            trial.report(loss=loss)
        steps[trial.number] = trial.last_step
        study.tell(trial, loss)
    assert steps[0] == steps[1] == 9, "with nobody to be compared with they go on"
    assert steps[2] == 1, "it is not the best of three, and without a checkpoint it cannot wait"
    assert steps[3] == 9
    assert study.best_value == 0.05


def test_reports_are_checked(make):
    study = make()
    trial = study.ask()
    trial.report(step=3, loss=0.5)
    with pytest.raises(InvalidSpecification, match="given step 3 after 3"):
        trial.report(step=3, loss=0.4)
    with pytest.raises(InvalidSpecification, match=r"the metric 'loss' is needed; given \['accuracy'\]"):
        trial.report(accuracy=0.5)
    trial.report(loss=0.4)
    assert trial.last_step == 4
    study.tell(trial)
    assert study.best_value == 0.4


def test_configurations_of_the_callers_own_come_first(make):
    study = make()
    study.enqueue({"x": 0.125})
    study.enqueue({"x": 0.25, "kind": "b"})
    assert study.ask().params == {"x": 0.125, "kind": "a"}
    assert study.ask().params == {"x": 0.25, "kind": "b"}
    assert [trial.origin for trial in study.trials] == ["user", "user"]
    with pytest.raises(InvalidSpace, match="'y' is not in the space"):
        study.enqueue({"y": 1})


def test_a_named_study_goes_on_where_it_was(make):
    study = make("bowl")
    study.tell(study.ask(), 0.5)
    study.close()
    again = make("bowl")
    assert again.best_value == 0.5
    trial = again.ask()
    assert trial.number == 1
    again.tell(trial, 0.25)
    assert again.best_value == 0.25


def test_trials_that_were_open_when_their_process_ended_are_asked_again(make):
    study = make("bowl")
    first, second = study.ask(), study.ask()
    study.tell(second, 1.0)
    study.close()  # as if it had been killed: nobody told the study of the first one
    again = make("bowl")
    asked = again.ask()
    assert (asked.number, asked.params) == (0, first.params)
    again.tell(asked, 0.5)
    assert again.best_value == 0.5


def test_a_named_study_has_one_asker_at_a_time_and_many_readers(make):
    first, second = make("bowl"), make("bowl")
    first.tell(first.ask(), 0.5)
    assert second.best_value == 0.5, "looking needs no claim"
    with pytest.raises(StudyBusy):
        second.ask()
    first.close()
    assert second.ask().number == 1


def test_another_space_under_the_same_name_is_refused(make):
    study = make("bowl")
    study.tell(study.ask(), 0.5)
    study.close()
    with pytest.raises(InvalidSpecification, match="study 'bowl' exists with another space"):
        make("bowl", space={"x": Float(0.0, 2.0)}).ask()


def test_a_metric_is_minimised_or_maximised(make):
    with pytest.raises(InvalidSpecification, match="either minimize= or maximize="):
        make(maximize="accuracy")
    with pytest.raises(InvalidSpecification, match="either minimize= or maximize="):
        make(minimize=None)


def test_nothing_to_look_at_is_said(make):
    with pytest.raises(UnknownStudy, match="run the study, or tell it a result"):
        _ = make().best_trial


def test_trials_are_a_table(make):
    pandas = pytest.importorskip("pandas")
    study = make(space={"x": Float(0.0, 1.0), "layers": Int(1, 4)})
    for value in (0.5, 0.25):
        study.tell(study.ask(), value)
    table = study.trials_dataframe()
    assert isinstance(table, pandas.DataFrame)
    assert list(table.columns) == ["number", "state", "value", "step", "origin", "params_layers", "params_x"]
    assert list(table["value"]) == [0.5, 0.25]
    assert list(table["state"]) == ["complete", "complete"]


@pytest.mark.parametrize("engine", ["random", "tpe"])
def test_one_seed_is_one_course(make, engine):
    def course(seed):
        study = make(search=engine, seed=seed)
        found = []
        for _ in range(14):
            trial = study.ask()
            study.tell(trial, (trial.params["x"] - 0.3) ** 2)
            found.append(trial.params)
        return found

    assert course(1) == course(1)
    assert course(1) != course(2)

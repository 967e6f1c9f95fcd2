"""What a function objective sees of its trial, and how it is paused, stopped and resumed."""

import threading

import pytest
from worker_orders import order

from orchestrator.domain.errors import InvalidSpace
from orchestrator.domain.trials import Decision
from orchestrator.tuning.handle import TrialHandle, load_checkpoint
from orchestrator.tuning.runs import RETURNED, FunctionRun

CONTINUE, PAUSE, STOP = Decision.CONTINUE, Decision.PAUSE, Decision.STOP
NEVER = lambda: False  # noqa: E731


def begin(function, until=3, saved=None, first_step=0, **params):
    return FunctionRun.open(function, order(until=until, **params), "the data", saved, first_step)


def test_a_function_sees_its_trial():
    seen = []

    def objective(trial):
        seen.append((trial.number, trial.params["x"], trial.seed, trial.data, trial.checkpoint, trial.last_step))
        return 0.5

    begin(objective).advance(3, NEVER)
    assert seen == [(0, 1.0, 7, "the data", None, 0)]


def test_control_comes_back_at_the_milestone_and_the_function_waits():
    steps = []

    def objective(trial):
        for step in range(1, 10):
            steps.append(step)
            trial.report(loss=1 / step)

    run = begin(objective)
    assert run.advance(3, NEVER).reports == [(1, {"loss": 1.0}), (2, {"loss": 0.5}), (3, {"loss": 1 / 3})]
    assert (steps, run.step) == ([1, 2, 3], 3)
    assert not run.advance(5, NEVER).done
    assert steps == [1, 2, 3, 4, 5]
    assert run.advance(99, NEVER).done
    assert run.step == 9


def test_control_comes_back_after_a_step_when_the_time_is_over():
    run = begin(lambda trial: [trial.report(loss=1.0) for _ in range(9)] and None)
    assert len(run.advance(9, lambda: True).reports) == 1
    run.close(STOP)


@pytest.mark.parametrize(
    ("returned", "metrics"),
    [(0.5, {RETURNED: 0.5}), (3, {RETURNED: 3.0}), ({"loss": 1, "acc": 0.5}, {"loss": 1.0, "acc": 0.5})],
)
def test_what_is_returned_is_the_last_report(returned, metrics):
    run = begin(lambda trial: returned)
    stretch = run.advance(3, NEVER)
    assert stretch.done
    assert stretch.reports == [(1, metrics)]
    assert run.step == 1


def test_a_function_that_returns_nothing_adds_nothing():
    def objective(trial):
        trial.report(loss=0.5)

    stretch = begin(objective).advance(3, NEVER)
    assert (stretch.reports, stretch.done) == ([(1, {"loss": 0.5})], True)


@pytest.mark.parametrize("returned", ["good", (1, 2), {"loss": "low"}, {"loss": None}])
def test_what_is_no_number_is_refused_by_its_name(returned):
    with pytest.raises(TypeError, match="an objective returns numbers by the names of their metrics; given"):
        begin(lambda trial: returned).advance(3, NEVER)


def test_a_paused_function_leaves_through_except_exception_and_no_further_step_is_taken():
    traces = []

    def objective(trial):
        try:
            for step in range(1, 10):
                try:
                    trial.report(loss=1.0, checkpoint={"step": step})
                except Exception:  # noqa: BLE001 - as users write it
                    traces.append("swallowed")
                traces.append(step)
        finally:
            traces.append("left")

    run = begin(objective)
    run.advance(3, NEVER)
    run.close(PAUSE)
    assert traces == [1, 2, "left"]


def test_a_paused_function_starts_again_with_its_checkpoint_at_the_right_step(tmp_path):
    def objective(trial):
        state = trial.checkpoint or {"sum": 0}
        for step in range(trial.last_step + 1, 7):
            state["sum"] += step
            trial.report(step=step, loss=float(state["sum"]), checkpoint=state)

    first = begin(objective)
    first.advance(3, NEVER)
    assert first.can_save
    assert first.save(tmp_path)
    first.close(PAUSE)
    second = begin(objective, saved=tmp_path, first_step=3)
    stretch = second.advance(99, NEVER)
    assert stretch.reports == [(4, {"loss": 10.0}), (5, {"loss": 15.0}), (6, {"loss": 21.0})]


def test_a_checkpoint_may_be_a_directory(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "weights").write_text("w")
    (tmp_path / "saved").mkdir()

    def objective(trial):
        trial.report(loss=1.0, checkpoint=own)
        trial.report(loss=1.0)

    run = begin(objective)
    run.advance(1, NEVER)
    assert run.save(tmp_path / "saved")
    run.close(PAUSE)
    assert (load_checkpoint(tmp_path / "saved") / "weights").read_text() == "w"


def test_a_report_without_checkpoint_leaves_nothing_to_save(tmp_path):
    def objective(trial):
        trial.report(loss=1.0, checkpoint={})
        trial.report(loss=1.0)
        trial.report(loss=1.0)

    run = begin(objective)
    run.advance(1, NEVER)
    assert run.can_save
    run.advance(2, NEVER)
    assert not run.can_save, "the state is that of an earlier step"
    assert not run.save(tmp_path)
    assert not list(tmp_path.iterdir())
    run.close(PAUSE)


def test_a_stopped_function_may_clean_up_and_leaves_at_its_next_report():
    traces = []

    def objective(trial):
        trial.report(loss=1.0)
        traces.append(("stopped", trial.should_stop()))
        trial.report(loss=2.0)
        traces.append("beyond")

    run = begin(objective)
    run.advance(1, NEVER)
    run.close(STOP)
    assert traces == [("stopped", True)]


def test_a_stopped_function_may_return_by_itself():
    def objective(trial):
        while not trial.should_stop():
            trial.report(loss=1.0)
        return "whatever"

    run = begin(objective)
    run.advance(2, NEVER)
    run.close(STOP)
    assert not [thread for thread in threading.enumerate() if thread.name == "objective"]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([3, 3], r"given step 3 after 3 \(a trial"),
        ([3, 2], "given step 2 after 3"),
        ([0], "given step 0 after 0"),
        ([1.5], "given step 1.5"),
    ],
)
def test_steps_rise(steps, message):
    def objective(trial):
        for step in steps:
            trial.report(step=step, loss=1.0)

    with pytest.raises(ValueError, match=f"report takes whole steps that rise; {message}"):
        begin(objective).advance(99, NEVER)


def test_a_report_of_what_is_no_number_names_it():
    with pytest.raises(TypeError, match="report takes numbers; given loss='low'"):
        begin(lambda trial: trial.report(loss="low")).advance(1, NEVER)


def test_what_the_function_raises_is_raised_where_the_worker_advances_it():
    def objective(trial):
        trial.report(loss=1.0)
        raise KeyError("lr")

    run = begin(objective)
    run.advance(1, NEVER)
    with pytest.raises(KeyError, match="lr"):
        run.advance(2, NEVER)


def test_suggestions_give_the_spaces_values():
    seen = []

    def objective(trial):
        seen.append(trial.suggest_float("x", 0, 1))
        seen.append(trial.suggest_int("layers", 1, 4))
        seen.append(trial.suggest_categorical("kind", ["a", "b"]))
        trial.suggest_float("y", 0, 1)

    with pytest.raises(InvalidSpace, match=r"'y' is not among this trial's parameters \(x, layers, kind\)"):
        begin(objective, layers=2, kind="b").advance(1, NEVER)
    assert seen == [1.0, 2, "b"]


def test_nothing_of_a_function_runs_before_it_is_advanced():
    ran = []
    handle = TrialHandle(0, {}, 0, None, first_step=0, checkpoint=None)
    handle.start(lambda trial: ran.append(True))
    assert not ran
    handle.advance(1, NEVER)
    assert ran

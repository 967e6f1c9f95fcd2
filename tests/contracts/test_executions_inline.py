"""What every execution of a study promises, tried with the one that needs no cluster."""

import time

import pytest

from orchestrator.domain.events import Interrupted, Started, Suggested, from_record
from orchestrator.domain.specification import StudySpecification
from orchestrator.domain.trials import Decision, TrialState
from orchestrator.journal import read_journal
from orchestrator.study import Layout, Phase, StudyKeeper, read_study, savings, status
from orchestrator.study.laws import violations
from orchestrator.tuning.code import Code, trial_defaults
from orchestrator.tuning.inline import run_inline
from orchestrator.tuning.workshop import Workshop
from trainables.testing import Quadratic

STUDY = {
    "study": "bowl",
    "space": {"x": {"min": -2.0, "max": 2.0}, "y": {"min": -3.0, "max": 0.0}},
    "objective": {"metric": "loss"},
    "search": "random",
    "scheduler": {"kind": "asha", "min": 1, "max": 9, "eta": 3},
    "budget": {"trials": 20},
    "execution": "inline",
}


class KilledError(BaseException):
    """The process is gone: nobody gets to say anything any more."""


class Breakable(Quadratic):
    """Does what a test wants at a step counted over all trials."""

    done: list[tuple[float, int]] = []  # noqa: RUF012 - what really ran, over all lives
    at: int | None = None
    error: BaseException | type[BaseException] = KilledError

    def step(self):
        if len(self.done) == type(self).at:
            type(self).at = None
            raise self.error
        metrics = super().step()
        self.done.append((self.height, self.steps))
        return metrics


@pytest.fixture(autouse=True)
def unbroken():
    Breakable.done, Breakable.at, Breakable.error = [], None, KilledError


@pytest.fixture
def run(tmp_path):
    def run(target=Breakable, where=tmp_path, watch=lambda: None, **changes):
        given = StudySpecification.from_dict(STUDY | changes)
        code = Code.of(target)
        keeper = StudyKeeper.open(given, time.time, storage=where, defaults=trial_defaults(code.resolve()))
        try:
            keeper.reopen()
            run_inline(keeper, Workshop(given, code, None, where), watch)
        finally:
            keeper.journal.close()
        state = read_study(where, "bowl").state
        assert violations(state, events(where)) == []
        return state

    return run


def events(where):
    return [from_record(record) for batch in read_journal(Layout(where, "bowl").journal) for record in batch]


def shape(state):
    """What a study found and decided, without times and workers."""
    trials = [(trial.number, trial.params, trial.state, trial.value, trial.reports) for trial in state.trials]
    return trials, state.scheduler.rungs()


def test_a_study_runs_to_its_end_by_the_rules_of_successive_halving(run):
    state = run()
    assert (state.phase, state.reason) == (Phase.ENDED, "finished")
    assert len(state.trials) == 20
    assert not any(trial.state is TrialState.RUNNING for trial in state.trials)
    rungs = [rung["trials"] for rung in state.scheduler.rungs()]
    assert rungs[0] == 20
    assert 20 > rungs[1] > rungs[2] > 0
    assert savings(state)["spent"] == len(Breakable.done) < savings(state)["full"]


def test_where_trials_are_stopped_nobody_waits_and_nobody_comes_back(run, tmp_path):
    state = run(scheduler={"kind": "asha", "min": 1, "max": 9, "eta": 3, "mode": "stop"})
    assert (state.phase, state.reason) == (Phase.ENDED, "finished")
    assert {trial.state for trial in state.trials} == {TrialState.COMPLETE, TrialState.STOPPED}
    assert {trial.last_step for trial in state.trials if trial.state is TrialState.STOPPED} <= {1, 3}
    begun = [event.trial for event in events(tmp_path) if isinstance(event, Started)]
    assert sorted(begun) == list(range(20)), "each was started once"
    assert savings(state)["spent"] == len(Breakable.done) < savings(state)["full"]
    best = min(trial.value for trial in state.trials if trial.value is not None)
    assert state.best.value == best


def test_no_step_is_done_twice_because_a_trial_goes_on_from_its_checkpoint(run):
    run()
    assert len(set(Breakable.done)) == len(Breakable.done)


def test_one_seed_is_one_course(run, tmp_path):
    first, second, third = run(where=tmp_path / "a"), run(where=tmp_path / "b"), run(where=tmp_path / "c", seed=1)
    assert shape(first) == shape(second)
    assert shape(first) != shape(third)


@pytest.mark.parametrize("at", [0, 1, 7, 25, 40])
def test_an_interrupt_leaves_a_study_that_goes_on_as_if_nothing_had_happened(run, tmp_path, at):
    undisturbed = run(where=tmp_path / "undisturbed")
    Breakable.done = []
    Breakable.at, Breakable.error = at, KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        run()
    left = read_study(tmp_path, "bowl").state
    assert left.counts[TrialState.RUNNING] == 0
    assert [event.cause for event in events(tmp_path) if isinstance(event, Interrupted)] == ["interrupted"]
    resumed = run()
    assert shape(resumed) == shape(undisturbed)
    assert len(Breakable.done) - len(set(Breakable.done)) < 6, "no more is done again than from the last checkpoint on"


@pytest.mark.parametrize("at", [0, 7, 40])
def test_a_killed_process_leaves_a_study_that_goes_on_as_if_nothing_had_happened(run, tmp_path, at):
    undisturbed = run(where=tmp_path / "undisturbed")
    Breakable.at = at + len(Breakable.done)
    with pytest.raises(KilledError):
        run()
    assert read_study(tmp_path, "bowl").state.counts[TrialState.RUNNING] == 1, "nobody could take it back"
    assert shape(run()) == shape(undisturbed)
    started = [event.trial for event in events(tmp_path) if isinstance(event, Suggested)]
    assert started == list(range(20))


def test_an_ended_study_runs_nothing_again_and_a_larger_budget_goes_on(run):
    run()
    done = len(Breakable.done)
    assert len(run().trials) == 20
    assert len(Breakable.done) == done
    assert len(run(budget={"trials": 25}).trials) == 25


def test_the_budget_of_time_ends_it_with_trials_that_can_be_resumed(run):
    class Slow(Quadratic):
        def step(self):
            time.sleep(0.02)
            return super().step()

    state = run(Slow, budget={"trials": 1000, "time": 0.3})
    assert (state.phase, state.reason) == (Phase.ENDED, "time")
    assert 0 < len(state.trials) < 100
    more = run(Slow, budget={"trials": len(state.trials) + 2})
    assert (len(more.trials), more.reason) == (len(state.trials) + 2, "finished")


def test_a_trial_that_runs_out_of_memory_is_retried_and_the_process_works_on(run):
    Breakable.at, Breakable.error = 3, MemoryError
    state = run()
    assert state.reason == "finished"
    assert [(trial.crashes, trial.attempt) for trial in state.trials if trial.failures] == [(1, 1)]


def test_a_step_that_outlasts_the_timeout_fails_its_trial_and_the_process_works_on(run):
    class Stuck(Quadratic):
        def step(self):
            if self.height > 1 and self.steps == 0:
                time.sleep(0.4)
            return super().step()

    state = run(Stuck, timeout="100ms", budget={"trials": 3}, failures={"crashes": 0, "alike": 100})
    assert state.phase is Phase.ENDED
    assert {f.cause for trial in state.trials for f in trial.failures} == {"timeout"}


def test_first_trials_that_all_fail_alike_end_the_study(run):
    def objective(trial):
        raise ValueError(f"trial {trial.number}")

    state = run(objective)
    assert (state.reason, len(state.trials)) == ("failing", 3)


def test_a_function_is_paused_and_promoted_like_any_other_trial(run):
    began = []

    def objective(trial):
        height = trial.checkpoint or trial.params["x"] ** 2
        began.append((trial.number, trial.last_step))
        for step in range(trial.last_step + 1, 10):
            trial.report(step=step, loss=height + 1 / step, checkpoint=height)

    state = run(objective)
    assert [rung["resource"] for rung in state.scheduler.rungs()] == [1, 3, 9]
    assert state.scheduler.rungs()[2]["trials"] > 0
    assert all(step in (0, 1, 3) for _, step in began)
    assert sum(trial.last_step for trial in state.trials) < 20 * 9


def test_a_function_that_only_returns_is_a_study_of_values(run):
    state = run(lambda trial: trial.params["x"] ** 2, scheduler="none")
    assert all(trial.state is TrialState.COMPLETE for trial in state.trials)
    assert state.best.value == min(trial.params["x"] ** 2 for trial in state.trials)


def test_the_watcher_sees_the_study_grow(run, tmp_path):
    seen = []
    run(watch=lambda: seen.append(status(read_study(tmp_path, "bowl").state)["trials"]), budget={"trials": 3})
    assert seen == sorted(seen)
    assert seen[-1] == 3


def test_decisions_are_in_the_journal(run, tmp_path):
    run()
    decisions = {event.decision for event in events(tmp_path) if type(event).__name__ == "Decided"}
    assert decisions == {Decision.CONTINUE, Decision.PAUSE}

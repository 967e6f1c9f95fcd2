"""What failed trials do to a study: attempts, causes, and an early end where the first ones all fail alike."""

import pytest

from orchestrator.domain.events import Failed, Interrupted, Reported
from orchestrator.domain.exchange import Progress
from orchestrator.domain.trials import Decision, Failure, TrialState
from orchestrator.study import Phase, first_failure, status
from orchestrator.study.leases import HOST_SECONDS

NEVER = {"crashes": 0, "errors": 0, "alike": 100}


# --- failing alike -------------------------------------------------------------------------------------------------


def test_three_failures_alike_and_no_success_end_the_study(lab):
    for trial in range(3):
        assert lab.state.phase is Phase.RUNNING
        assert lab.ask() == [trial]
        assert lab.fail(trial) is Decision.STOP
    assert (lab.state.phase, lab.state.reason) == (Phase.ENDED, "failing")
    assert lab.send().release
    assert first_failure(lab.state)["message"] == "boom"


def test_failures_of_different_kinds_do_not_add_up(lab):
    for trial in range(4):
        lab.ask()
        lab.fail(trial, signature=f"ValueError at train.py:{trial % 2}")
    assert lab.state.phase is Phase.RUNNING


def test_several_attempts_of_one_trial_count_as_one(make_lab):
    lab = make_lab(failures={"errors": 5})
    for _ in range(6):
        assert lab.ask() == [0]
        lab.fail(0)
    assert lab.state.phase is Phase.RUNNING
    assert lab.state.trials[0].state is TrialState.ABANDONED


def test_after_one_success_failures_alike_do_not_end_the_study(lab):
    lab.ask()
    lab.say(0, 0.5)
    for trial in range(1, 7):
        lab.ask()
        lab.fail(trial)
    assert lab.state.phase is Phase.RUNNING
    assert status(lab.state)["failed_trials"] == 6


def test_a_metric_that_is_never_reported_ends_the_study_at_once_and_names_the_nearest(make_lab):
    lab = make_lab(failures={"errors": 5}, objective={"metric": "val_loss"})
    lab.ask()
    assert lab.say(0, 0.5, val_los=0.5, accuracy=0.9) is Decision.STOP
    assert (lab.state.phase, lab.state.reason) == (Phase.ENDED, "failing")
    [failed] = lab.events(Failed)
    assert not failed.retry, "every trial would repeat it"
    assert failed.failure.message == (
        "the trainable reports no 'val_loss' at step 1; it reports: loss, val_los, accuracy. Did you mean 'val_los'?"
    )


def test_a_metric_that_one_trial_does_not_report_fails_that_trial_alone(lab):
    lab.ask()
    lab.say(0, 0.5)
    lab.ask()
    lab.send(progress=[Progress(1, 0, ((1, {"accuracy": 0.9}),))])
    assert lab.state.trials[1].state is TrialState.ABANDONED
    assert lab.state.phase is Phase.RUNNING


def test_a_trial_that_ends_and_reported_nothing_fails_and_says_what_to_do(lab):
    lab.ask()
    assert lab.say(0, done=True) is Decision.STOP
    [failed] = lab.events(Failed)
    assert "return a number, or call trial.report(loss=…)" in failed.failure.message
    assert lab.state.reason == "failing"


# --- metrics that are no numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "word"), [(float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "-inf")])
def test_a_metric_that_is_not_finite_fails_the_trial_and_says_where(make_lab, value, word):
    lab = make_lab(failures=NEVER)
    lab.ask()
    assert lab.send(progress=[Progress(0, 0, ((1, {"loss": value}),))]).verdicts[0].decision is Decision.STOP
    trial = lab.state.trials[0]
    assert trial.state is TrialState.ABANDONED
    assert trial.failures[0].message == f"loss was {word} at step 1"
    assert not lab.events(Reported)
    assert lab.state.best is None


def test_other_metrics_may_be_anything(lab):
    lab.ask()
    lab.say(0, 0.5, gradient=float("nan"))
    assert lab.state.trials[0].value == 0.5


# --- attempts ------------------------------------------------------------------------------------------------------


def test_an_error_is_retried_as_often_as_configured_from_the_last_checkpoint(make_lab):
    lab = make_lab(failures={"errors": 1, "alike": 100}, scheduler={"kind": "none", "max": 5})
    lab.ask()
    lab.say(0, 0.5, 0.4)
    lab.fail(0)
    assert lab.state.trials[0].state is TrialState.FAILED
    [run] = lab.send().runs
    assert (run.trial, run.attempt, run.checkpoint.step, run.reported) == (0, 1, 2, 2)
    lab.fail(0)
    assert lab.state.trials[0].state is TrialState.ABANDONED
    assert lab.ask() == [1]


def test_crashes_and_errors_are_counted_apart(make_lab):
    lab = make_lab(failures={"crashes": 1, "errors": 1, "alike": 100}, budget={"trials": 1})
    for worker, blow in (("a", "crash"), ("b", "error"), ("c", "error")):
        assert lab.ask(worker) == [0]
        if blow == "crash":
            lab.write(lab.study.worker_lost(worker, lab.now, cause="exit code -9", blame=True))
        else:
            lab.fail(0, worker=worker)
    assert lab.state.trials[0].state is TrialState.ABANDONED
    assert [failed.retry for failed in lab.events(Failed)] == [True, True, False]
    assert lab.state.trials[0].attempt == 2


def test_a_crash_is_laid_on_each_trial_that_the_worker_ran(make_lab):
    lab = make_lab(failures={"crashes": 1, "alike": 100})
    assert lab.ask(room=3) == [0, 1, 2]
    lab.write(lab.study.worker_lost("w", lab.now, cause="exit code -9", blame=True))
    assert [trial.crashes for trial in lab.state.trials] == [1, 1, 1]
    assert lab.ask("v") == [0]
    assert lab.state.trials[0].attempt == 1


def test_out_of_memory_has_a_cause_of_its_own(lab):
    lab.ask()
    lab.write(lab.study.worker_lost("w", lab.now, cause="killed by the memory monitor", blame=True))
    assert lab.state.trials[0].failures[0].cause == "memory"


def test_a_lost_host_costs_no_attempt_and_its_trials_go_first(lab):
    lab.ask(host="h")
    lab.study.beat("h", lab.now)
    lab.tick(HOST_SECONDS + 0.5)
    assert lab.state.trials[0].state is TrialState.WAITING
    assert f"host h gave no sign of life for {HOST_SECONDS:g} s" in lab.events(Interrupted)[0].cause
    assert lab.ask("other") == [0]
    assert lab.state.trials[0].attempt == 0
    assert lab.send("w").fenced


def test_a_host_that_beats_is_alive(lab):
    lab.ask(host="h")
    for _ in range(5):
        lab.study.beat("h", lab.now)
        lab.tick(HOST_SECONDS - 1)
    assert lab.state.trials[0].state is TrialState.RUNNING


def test_a_trial_between_milestones_goes_on_from_its_checkpoint_and_counts_no_step_twice(make_lab):
    lab = make_lab(scheduler={"kind": "none", "max": 9})
    lab.ask()
    lab.say(0, 0.9, 0.8)
    lab.say(0, 0.7, 0.6, saves=False)
    lab.write(lab.study.worker_lost("w", lab.now, cause="killed", blame=False))
    assert lab.state.trials[0].state is TrialState.PAUSED
    [run] = lab.send("v").runs
    assert (run.checkpoint.step, run.reported, run.until) == (2, 4, 9)
    again = tuple((step, {"loss": 0.1}) for step in (3, 4, 5))
    lab.send("v", [Progress(0, 0, again)])
    assert [step for step, _ in lab.state.trials[0].reports] == [1, 2, 3, 4, 5]
    assert lab.state.trials[0].reports[2][1] == {"loss": 0.7}


# --- words from those whose time is over -----------------------------------------------------------------------------


def test_a_fenced_worker_gets_nothing_and_changes_nothing(lab):
    lab.ask()
    lab.write(lab.study.worker_lost("w", lab.now, cause="a rumour", blame=False))
    before = len(lab.journal)
    answer = lab.send("w", [Progress(0, 0, ((1, {"loss": 0.0}),))])
    assert answer.fenced
    assert not answer.runs
    assert len(lab.journal) == before


def test_a_trial_that_another_worker_runs_is_let_go_of(lab):
    lab.ask()
    lab.write(lab.study.worker_lost("w", lab.now, cause="a rumour", blame=False))
    lab.restart()
    assert lab.ask("v") == [0]
    assert lab.say(0, 0.1, worker="w") is Decision.STOP, "the fence is gone with the actor, the lease is not"
    assert not lab.state.trials[0].reports


def test_a_trial_of_an_earlier_study_of_that_name_is_let_go_of(lab):
    answer = lab.send(progress=[Progress(77, 0, ((1, {"loss": 0.5}),))], room=0)
    assert answer.verdicts[77].decision is Decision.STOP


def test_a_worker_that_leaves_gives_everything_back_and_gets_nothing(make_lab):
    lab = make_lab(failures={"crashes": 1})
    lab.ask(room=3)
    memory = Failure("memory", "MemoryError", signature="memory")
    answer = lab.send(progress=[Progress(0, 0, failure=memory), Progress(1, 0), Progress(2, 0)], leaving=True)
    assert (answer.release, answer.runs, answer.verdicts[0].decision) == (True, (), Decision.STOP)
    assert [trial.state for trial in lab.state.trials] == [TrialState.FAILED, TrialState.WAITING, TrialState.WAITING]
    assert [trial.crashes for trial in lab.state.trials] == [1, 0, 0]
    assert lab.ask("v", room=3) == [0, 1, 2]


def test_a_message_that_comes_twice_counts_once_and_gets_the_same_answer(lab):
    lab.ask(room=2)
    said = [Progress(0, 0, ((1, {"loss": 0.5}),)), Progress(1, 0)]
    first = lab.send(progress=said, room=2)
    before = len(lab.journal)
    second = lab.send(progress=said, room=2)
    assert second.runs == first.runs
    assert [v.decision for v in second.verdicts.values()] == [v.decision for v in first.verdicts.values()]
    assert len(lab.journal) == before


def test_an_order_that_got_lost_is_given_again(lab):
    first = lab.send()
    second = lab.send()
    assert first.runs == second.runs
    assert lab.ask("v") == [1]

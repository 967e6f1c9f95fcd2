"""ASHA with stopping in a whole study: who is stopped is over, and what that saves."""

from orchestrator.domain.events import Decided
from orchestrator.domain.trials import Decision, TrialState
from orchestrator.study import Phase, savings, status

STOPPING = {"kind": "asha", "min": 1, "max": 9, "eta": 3, "mode": "stop"}


def run_all(lab, losses, worker="w"):
    """One worker, to the end of the study; a trial has the same loss at each step."""
    while order := lab.ask(worker):
        decision = Decision.CONTINUE
        while decision is Decision.CONTINUE:
            trial = lab.state.trials[order[0]]
            steps = trial.until - trial.last_step
            decision = lab.say(order[0], *[losses[order[0]]] * steps, worker=worker)


def test_who_is_not_among_the_best_is_over_at_once_though_it_has_a_checkpoint(make_lab):
    lab = make_lab(scheduler=STOPPING)
    run_all(lab, [0.5, 0.6, 0.4, 0.7, 0.8, 0.1, 0.9, 0.95, 0.99])
    reached = [trial.last_step for trial in lab.state.trials]
    assert reached == [9, 9, 9, 1, 1, 9, 1, 1, 1]
    assert [trial.state for trial in lab.state.trials] == [
        TrialState.STOPPED if step == 1 else TrialState.COMPLETE for step in reached
    ]
    assert all(trial.ended_at is not None for trial in lab.state.trials)
    assert not [event for event in lab.events(Decided) if event.decision is Decision.PAUSE]
    assert (lab.state.phase, lab.state.reason) == (Phase.ENDED, "finished")


def test_status_and_savings_count_what_was_stopped(make_lab):
    lab = make_lab(scheduler=STOPPING)
    run_all(lab, [0.5, 0.6, 0.4, 0.7, 0.8, 0.1, 0.9, 0.95, 0.99])
    assert savings(lab.state) == {"spent": 4 * 9 + 5, "full": 81}
    now = status(lab.state)
    assert (now["states"]["stopped"], now["states"]["paused"]) == (5, 0)
    assert now["rungs"] == [
        {"resource": 1, "trials": 9, "promoted": 4},
        {"resource": 3, "trials": 4, "promoted": 4},
        {"resource": 9, "trials": 4, "promoted": 0},
    ]
    assert now["best"]["trial"] == 5


def test_one_that_the_end_of_the_study_sent_away_goes_on_afterwards_and_the_stopped_do_not(make_lab):
    lab = make_lab(scheduler=STOPPING)
    for loss in (0.5, 0.6, 0.4, 0.9):
        [trial] = lab.ask()
        if lab.say(trial, loss) is Decision.CONTINUE:
            lab.say(trial, loss, loss, done=True)
    [held] = lab.ask()
    lab.write(lab.study.stop(lab.now))
    assert lab.say(held, 0.1) is Decision.PAUSE
    assert lab.state.trials[3].state is TrialState.STOPPED
    lab.restart()
    lab.write(lab.study.reopen(lab.now))
    assert lab.ask("v", room=2) == [held, 5]


def test_the_yardstick_is_measured_to_its_end(make_lab):
    lab = make_lab(defaults={"x": 0.5}, scheduler=STOPPING)
    held = lab.ask(room=4)
    for trial in held[1:]:
        lab.say(trial, 0.1)
    assert lab.say(0, 5.0) is Decision.CONTINUE

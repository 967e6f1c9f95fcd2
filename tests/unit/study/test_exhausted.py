"""A study whose search has a finite list: it ends with it, says so, and begins nothing twice."""

import signal
import subprocess
import sys

from orchestrator.domain.events import Ending
from orchestrator.study import Phase, read_study

GRID = {"space": {"x": {"min": 1, "max": 4}}, "search": "grid", "scheduler": {"kind": "none", "max": 1}}

KILLED = """
import os, signal, sys
from orchestrator.api.study import Study
from orchestrator.domain.space import Choice, Int

def objective(trial):
    if trial.number == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return trial.params["x"] * (2.0 if trial.params["kind"] == "b" else 1.0)

space = {"x": Int(1, 4), "kind": Choice(["a", "b"])}
Study("grid", objective, space, minimize="loss", search="grid", storage=sys.argv[1], execution="inline",
      failures={"crashes": 9}).run(trials=50)
"""


def finish(lab, worker="w"):
    """Runs trials of one step until there is no work."""
    while True:
        order = lab.ask(worker)
        if not order:
            return
        lab.say(order[0], float(lab.state.trials[order[0]].params["x"]), worker=worker)


def test_it_ends_when_all_of_the_grid_was_tried_and_says_so(make_lab):
    lab = make_lab(**GRID)
    finish(lab)
    assert [trial.params["x"] for trial in lab.state.trials] == [1, 2, 3, 4]
    assert (lab.state.phase, lab.state.reason) == (Phase.ENDED, "exhausted")


def test_a_budget_that_is_reached_first_is_the_reason(make_lab):
    lab = make_lab(**GRID, budget={"trials": 3})
    finish(lab)
    assert [event.reason for event in lab.events(Ending)] == ["finished"]
    assert len(lab.state.trials) == 3


def test_who_waits_for_the_last_ones_keeps_the_study_open(make_lab):
    lab = make_lab(**GRID)
    held = lab.ask(room=4)
    assert lab.ask("other") == []
    assert lab.state.phase is Phase.RUNNING
    for trial in held:
        lab.say(trial, 1.0)
    assert lab.ask() == []
    assert lab.state.reason == "exhausted"


def test_the_trainables_defaults_and_the_users_own_count(make_lab):
    lab = make_lab(defaults={"x": 3}, **GRID)
    lab.write(lab.study.enqueue({"x": 1}, lab.now))
    finish(lab)
    assert sorted(trial.params["x"] for trial in lab.state.trials) == [1, 2, 3, 4]
    assert [trial.origin for trial in lab.state.trials] == ["user", "search", "search", "search"]


def test_a_study_actor_that_dies_and_one_that_reopens_begin_nothing_twice(make_lab):
    lab = make_lab(**GRID)
    lab.say(lab.ask()[0], 1.0)
    lost = lab.ask()
    lab.restart()
    lab.write(lab.study.all_workers_lost(lab.now, "its runner is gone"))
    assert lab.ask("v") == lost, "the one that was lost goes first"
    lab.say(lost[0], 1.0, worker="v")
    finish(lab, "v")
    lab.restart(budget={"trials": 20})
    lab.write(lab.study.reopen(lab.now))
    assert (lab.state.phase, lab.ask("v")) == (Phase.ENDED, [])
    assert [trial.params["x"] for trial in lab.state.trials] == [1, 2, 3, 4]


def test_a_killed_process_resumes_its_grid_and_repeats_no_configuration(tmp_path):
    for kill_at, code in ((3, -signal.SIGKILL), (5, -signal.SIGKILL), (99, 0)):
        run = subprocess.run(
            [sys.executable, "-c", KILLED, str(tmp_path), str(kill_at)], capture_output=True, text=True
        )
        assert run.returncode == code, run.stderr
    state = read_study(tmp_path, "grid").state
    seen = [(trial.params["x"], trial.params["kind"]) for trial in state.trials]
    assert sorted(seen) == [(x, kind) for x in (1, 2, 3, 4) for kind in ("a", "b")]
    assert state.reason == "exhausted"
    assert {str(trial.state) for trial in state.trials} == {"complete"}

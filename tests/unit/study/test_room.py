"""Room: workers that must go because a replica needs their place; what they did is not done again."""

import pytest

from orchestrator.domain.events import Failed, Interrupted
from orchestrator.domain.exchange import Progress
from orchestrator.domain.trials import Decision, TrialState
from orchestrator.study.leases import LEAVE_SECONDS

LONG = {"kind": "none", "max": 100}


@pytest.fixture
def crowd(make_lab):
    """Three workers at a trial each: w0 has 5 steps that are not saved, w1 none, w2 two."""
    lab = make_lab(scheduler=LONG)
    for number, unsaved in enumerate((5, 0, 2)):
        assert lab.ask(f"w{number}") == [number]
        lab.say(number, 1.0, worker=f"w{number}")
        if unsaved:
            lab.say(number, *[1.0] * unsaved, worker=f"w{number}", saves=False)
    return lab


def asked_to_leave(lab):
    return [
        worker
        for number, worker in enumerate(("w0", "w1", "w2"))
        if lab.send(worker, [Progress(number, lab.state.trials[number].attempt)]).leave
    ]


def test_nobody_leaves_while_there_is_room(crowd):
    crowd.study.shrink(3, crowd.now)
    assert asked_to_leave(crowd) == []


def test_those_leave_that_are_cheapest_to_resume(crowd):
    crowd.study.shrink(2, crowd.now)
    assert asked_to_leave(crowd) == ["w1"]
    crowd.study.shrink(2, crowd.now)
    assert asked_to_leave(crowd) == ["w1"], "asked again while it is leaving, nobody else has to go"
    crowd.study.shrink(1, crowd.now)
    assert asked_to_leave(crowd) == ["w1", "w2"]


def test_of_those_that_lose_nothing_the_one_on_the_lowest_rung_leaves(make_lab):
    lab = make_lab(defaults={"x": 0.5}, scheduler={"kind": "asha", "min": 1, "max": 9, "eta": 3})
    assert lab.ask("w0") == [0]
    assert lab.say(0, 0.1, worker="w0") is Decision.CONTINUE, "the default configuration goes on to the next rung"
    assert lab.ask("w1") == [1]
    lab.study.shrink(1, lab.now)
    leaving = [w for n, w in enumerate(("w0", "w1")) if lab.send(w, [Progress(n, 0)]).leave]
    assert leaving == ["w1"]


def test_a_worker_that_leaves_takes_nothing_more_and_its_trial_goes_on_elsewhere(crowd):
    crowd.study.shrink(2, crowd.now)
    answer = crowd.send("w1", [Progress(1, 0)], room=2)
    assert (answer.leave, answer.runs, answer.release) == (True, (), False)
    checkpoint = crowd.state.trials[1].checkpoint
    answer = crowd.send("w1", [Progress(1, 0)], leaving=True)
    assert answer.release
    [event] = crowd.events(Interrupted)
    assert (event.trial, crowd.events(Failed)) == (1, [])
    assert crowd.send("w2", [Progress(2, 0)], room=2).runs[0].checkpoint == checkpoint


def test_an_idle_worker_goes_first_and_at_once(make_lab):
    lab = make_lab(budget={"trials": 1}, scheduler=LONG)
    assert lab.ask("w0") == [0]
    assert lab.ask("w1") == []
    lab.study.shrink(1, lab.now)
    assert lab.send("w1").release
    lab.study.shrink(1, lab.now)
    assert not lab.send("w0", [Progress(0, 0)]).leave


def test_a_worker_that_does_not_come_back_from_its_step_is_fenced_without_blame(crowd):
    crowd.study.shrink(2, crowd.now)
    crowd.tick(LEAVE_SECONDS)
    assert crowd.study.fenced == frozenset()
    crowd.tick(1)
    assert crowd.study.fenced == {"w1"}
    assert crowd.state.trials[1].state is TrialState.PAUSED
    assert crowd.events(Failed) == []


def test_where_a_replica_needs_a_host_those_leave_that_are_on_it(make_lab):
    lab = make_lab(scheduler=LONG)
    for number, host in enumerate(("a", "a", "b", "c")):
        assert lab.ask(f"w{number}", host=host) == [number]
    lab.study.shrink(2, lab.now, {"a": 1, "b": 1})
    leaving = {w for n in range(4) if lab.send(w := f"w{n}", [Progress(n, 0)], host="aabc"[n]).leave}
    assert leaving == {"w0", "w3"}
    lab.study.shrink(2, lab.now, {"a": 0, "b": 2})
    assert lab.send("w1", [Progress(1, 0)], host="a").leave, "whoever is leaving already is not counted twice"


def test_workers_of_an_earlier_runner_do_not_count(crowd):
    crowd.write(crowd.study.all_workers_lost(crowd.now, "a new runner began"))
    for number in range(3):
        assert crowd.ask(f"v{number}") == [number]
    crowd.study.shrink(3, crowd.now)
    assert not any(crowd.send(f"v{n}", [Progress(n, 0)]).leave for n in range(3))

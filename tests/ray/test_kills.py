"""kill -9 of a worker, of the study actor, of the runner: the study goes on by itself, and nothing counts twice."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
from ray.util import placement_group, placement_group_table
from studies import SLOWLY, begin, check_laws, events, run_to_end, specification, wait_for, worker_processes

from orchestrator.process_graph.launch import RunningStudy
from orchestrator.process_graph.placements import placement_name
from orchestrator.tuning.pooled import WorkerSearcher, WorkerWatch

pytestmark = pytest.mark.ray


def some_work(running: RunningStudy) -> bool:
    """Whether enough happened that something could be lost."""
    return running.status()["rungs"][0]["trials"] >= 3


def pid_of(running: RunningStudy, victim: str) -> int:
    if victim == "study actor":
        return int(running.status()["pid"])
    if victim == "runner":
        return int(running.runner_status()["pid"])
    return int(wait_for(worker_processes, "a worker")[0].pid)


def started(given: Any) -> int:
    return sum(event["type"] == "started" for event in events(given))


@pytest.mark.parametrize("victim", ["worker", "study actor", "runner"])
def test_a_study_survives_the_kill_of(ray_session: str, tmp_path: Path, victim: str) -> None:
    name = f"killed-{victim.replace(' ', '-')}"
    given = specification(tmp_path, name, trainable=SLOWLY, execution="pooled", budget={"trials": 14})
    running = begin(given, ray_session)
    wait_for(lambda: some_work(running), "some work")
    pid = pid_of(running, victim)
    before = running.status()["rungs"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not psutil.pid_exists(pid), "the kernel to end it")
    ended = run_to_end(running)
    running.release()
    assert ended["reason"] == "finished"
    assert ended["failed_trials"] == 0
    for earlier, later in zip(before, ended["rungs"], strict=True):
        assert later["trials"] >= earlier["trials"], "rungs are as before, or fuller"
    check_laws(given)
    kinds = [event["type"] for event in events(given)]
    if victim == "worker":
        assert kinds.count("failed") >= 1, "the crash is laid on the trial that ran"
    if victim == "study actor":
        assert kinds.count("opened") == 2, "a new epoch began"
    if victim == "runner":
        assert kinds.count("failed") == 0, "nobody is blamed for the runner's death"


def test_room_that_a_killed_runner_was_asking_for_is_given_back(ray_session: str, tmp_path: Path) -> None:
    given = specification(tmp_path, "room", execution="pooled", budget={"trials": 3})
    late = placement_group([{"CPU": 1.0}], name=placement_name(given.storage, given.study))
    assert late.wait(60)
    running = begin(given, ray_session)
    wait_for(lambda: running.runner_status()["phase"] == "tuning", "the next runner")
    assert placement_group_table(late)["state"] == "REMOVED"
    run_to_end(running)
    late = placement_group([{"CPU": 1.0}], name=placement_name(given.storage, given.study))
    assert late.wait(60)
    running.release()
    held = [entry["state"] for entry in placement_group_table().values() if entry["name"].startswith("runner:room:")]
    wait_for(lambda: placement_group_table(late)["state"] == "REMOVED", "the room of a released study")
    assert len(held) >= 2 + 2, "the workers' rooms bear the study's name, too"


def test_workers_that_die_again_and_again_give_the_trial_up(ray_session: str, tmp_path: Path) -> None:
    reference = f"{Path(__file__).parent / 'deadly.py'}:Deadly"
    given = specification(
        tmp_path, "deadly", trainable=reference, budget={"trials": 4}, failures={"crashes": 1}, scheduler="none"
    )
    given = given.with_changes(scheduler=type(given.scheduler)("none", 1, 3, 3))
    running = begin(given, ray_session)
    ended = run_to_end(running)
    running.release()
    assert ended["states"]["abandoned"] == 1
    assert ended["states"]["complete"] == 3
    crashes = [event for event in events(given) if event["type"] == "failed"]
    assert [event["attempt"] for event in crashes] == [0, 1]
    assert {event["failure"]["cause"] for event in crashes} == {"crash"}


@pytest.mark.parametrize("execution", ["pooled", pytest.param("tune", marks=pytest.mark.long)])
def test_a_hanging_trial_is_given_up_after_its_timeout_and_its_process_ended(
    ray_session: str, tmp_path: Path, execution: str
) -> None:
    reference = f"{Path(__file__).parent / 'stuck.py'}:Stuck"
    given = specification(
        tmp_path,
        f"stuck-{execution}",
        trainable=reference,
        execution=execution,
        budget={"trials": 4},
        failures={"crashes": 0},
        timeout=20 if execution == "tune" else 8,  # a process that starts on a busy machine says nothing either
        resources={"concurrent": 1},
    )
    given = given.with_changes(scheduler=type(given.scheduler)("none", 1, 3, 3))
    running = begin(given, ray_session)
    ended = run_to_end(running)
    running.release()
    assert ended["states"]["abandoned"] == 1
    assert ended["states"]["complete"] == 3
    failures = [event["failure"] for event in events(given) if event["type"] == "failed"]
    assert [failure["cause"] for failure in failures] == ["timeout"]


class Process:
    """An actor with nothing to do."""


def test_a_worker_that_was_ended_is_replaced_before_tune_knows(ray_session: str) -> None:
    watch = WorkerWatch(lambda worker, cause, blame: None)
    searcher = WorkerSearcher(lambda: 1, lambda trial_id: {"worker": f"worker-{trial_id}"}, watch.has_ended)
    assert searcher.suggest("a") == {"worker": "worker-a"}
    state = SimpleNamespace(ray_actor=ray.remote(Process).remote())
    watch.on_trial_start(0, [], SimpleNamespace(config={"worker": "worker-a"}, temporary_state=state))
    assert searcher.suggest("b") is None
    watch.kill(frozenset({"worker-a"}))
    assert searcher.suggest("b") == {"worker": "worker-b"}
    searcher.on_trial_complete("a", error=True)
    assert searcher.suggest("c") is None, "Tune's late word about it makes no room for another"

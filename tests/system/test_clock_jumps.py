"""The wall clock is set by an hour while a study runs: no budget, no silence and no lease is counted by it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.options import STORAGE_VARIABLE
from orchestrator.cli.verifying import examine
from orchestrator.domain.errors import OrchestratorError, StudyBusy
from orchestrator.journal import ObjectJournal, Storage, read_journal
from orchestrator.study import read_study

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(shutil.which("cc") is None, reason="a C compiler is needed to make a wall clock that jumps"),
]

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "orchestrator"
WAIT_SECONDS = 120.0
HOUR = 3600
SLOW = """
import time
from trainables.testing import Quadratic

class Slow(Quadratic):
    def step(self):
        time.sleep(0.02)
        return super().step()
"""
BOWL = """
study: bowl
trainable: slow.py:Slow
space: {{x: {{min: -5.0, max: 5.0}}}}
objective: {{metric: loss}}
search: {{engine: random}}
scheduler: {{kind: asha, min: 1, max: 9, eta: 3}}
budget: {budget}
timeout: 60s
execution: inline
"""
ACTOR = """
import sys
from orchestrator.process_graph.study_actor import StudyActor
specification, storage = eval(sys.argv[1]), sys.argv[2]
actor = StudyActor(specification, storage, None, "", {}, "")
message = {"protocol": 1, "worker": "w", "epoch": 0, "host": "h", "progress": [], "exports": [], "room": 1,
           "leaving": False, "making": []}
answer = actor.exchange(message)
message |= {"epoch": answer["epoch"], "progress": [(0, 0, [], None, False, None)], "room": 1}
actor.beat("h")
for line in sys.stdin:
    tick = actor.tick(1)
    status = actor.status()
    print({"fenced": tick["fenced"], "phase": tick["phase"], "fences": actor.exchange(message)["fenced"],
           "failed": status["failed_trials"], "seconds": status["seconds"]}, flush=True)
actor.close()
"""
WRITER = """
import sys
from pathlib import Path
from orchestrator.journal import ObjectJournal, Storage
journal = ObjectJournal(Storage.of(sys.argv[1]), spool=Path(sys.argv[2]), ttl_seconds=2.0)
journal.keep_renewed()
for line in sys.stdin:
    journal.append([{"type": "started", "trial": int(line)}])
    print(line.strip(), flush=True)
journal.close()
"""


class WallClock:
    """What programs of a test take for the wall clock."""

    def __init__(self, folder: Path) -> None:
        library = folder / "wall_clock.so"
        source = Path(__file__).with_name("wall_clock.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
        self._offset = folder / "offset"
        self.set(0)
        self.environment = {"LD_PRELOAD": str(library), "WALL_CLOCK_OFFSET": str(self._offset)}

    def set(self, seconds: int) -> None:
        """Sets it so many seconds before or behind the real one."""
        beside = self._offset.with_suffix(".new")
        beside.write_text(str(seconds))
        beside.replace(self._offset)


@pytest.fixture
def wall(tmp_path: Path) -> WallClock:
    return WallClock(tmp_path)


class Programs:
    """Our programs, under the wall clock of a test."""

    def __init__(self, folder: Path, wall: WallClock) -> None:
        self.storage = folder / "runs"
        self._wall = wall
        self._options: dict[str, Any] = {
            "cwd": folder,
            "text": True,
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        environment = os.environ | self._wall.environment | {STORAGE_VARIABLE: str(self.storage)}
        return subprocess.Popen(words, env=environment, **self._options)

    def run_study(self) -> "subprocess.Popen[str]":
        return self.begin(str(PROGRAM), "run", "bowl.yaml", "--quiet", "--json")

    def reports(self) -> int:
        try:
            return sum(len(trial.reports) for trial in read_study(self.storage, "bowl").state.trials)
        except OrchestratorError:  # it has not begun
            return 0


@pytest.fixture
def programs(tmp_path: Path, wall: WallClock) -> Programs:
    (tmp_path / "slow.py").write_text(SLOW)
    return Programs(tmp_path, wall)


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS:.0f} s for {what}"
        time.sleep(0.05)
    return found


def summary(driver: "subprocess.Popen[str]") -> dict[str, Any]:
    wrote, said = driver.communicate(timeout=WAIT_SECONDS)
    assert driver.returncode == 0, said
    found: dict[str, Any] = json.loads(wrote)
    return found


def test_a_jump_neither_ends_a_study_nor_fails_a_trial(programs: Programs, wall: WallClock, tmp_path: Path) -> None:
    (tmp_path / "bowl.yaml").write_text(BOWL.format(budget="{trials: 120, time: 30m}"))
    driver = programs.run_study()
    for goal, seconds in ((20, HOUR), (60, -HOUR), (100, 0)):
        wait_for(lambda more=goal: driver.poll() is not None or programs.reports() > more, "reports")
        wall.set(seconds)
    found = summary(driver)
    assert (found["trials"], found["reason"], found["failed_trials"]) == (120, "finished", 0)
    assert found["study_seconds"] < 1800
    assert examine(programs.storage, "bowl")[0] == []


def test_a_budget_of_seconds_ends_in_time_though_the_clock_was_set_back(
    programs: Programs, wall: WallClock, tmp_path: Path
) -> None:
    (tmp_path / "bowl.yaml").write_text(BOWL.format(budget="{time: 4s}"))
    driver = programs.run_study()
    wait_for(lambda: driver.poll() is not None or programs.reports() > 3, "reports")
    wall.set(-HOUR)
    assert summary(driver)["reason"] == "time"


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_a_jump_between_two_lives_costs_no_time_and_no_trial(
    programs: Programs, wall: WallClock, tmp_path: Path, seconds: int
) -> None:
    (tmp_path / "bowl.yaml").write_text(BOWL.format(budget="{trials: 60, time: 30m}"))
    driver = programs.run_study()
    wait_for(lambda: driver.poll() is not None or programs.reports() > 20, "reports")
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    wall.set(seconds)
    found = summary(programs.run_study())
    assert (found["trials"], found["reason"], found["failed_trials"]) == (60, "finished", 0)
    assert 0 < found["study_seconds"] < 1800
    assert examine(programs.storage, "bowl")[0] == []


def test_a_jump_is_not_the_silence_of_a_host_or_of_a_trial(bucket: str, programs: Programs, wall: WallClock) -> None:
    specification = {
        "study": "bowl",
        "space": {"x": {"min": -5.0, "max": 5.0}},
        "objective": {"metric": "loss"},
        "search": "random",
        "budget": {"trials": 50, "time": "30m"},
        "timeout": "60s",
    }
    actor = programs.begin(sys.executable, "-c", ACTOR, repr(specification), f"s3://{bucket}/runs")
    assert actor.stdin is not None
    assert actor.stdout is not None
    for seconds in (0, HOUR, -HOUR, 0):
        wall.set(seconds)
        actor.stdin.write("\n")
        actor.stdin.flush()
        line = actor.stdout.readline()
        assert line, actor.communicate()
        said = eval(line)
        assert said["seconds"] < 600, said
        said.pop("seconds")
        assert said == {"fenced": [], "phase": "running", "fences": False, "failed": 0}
    _, wrong = actor.communicate(timeout=WAIT_SECONDS)
    assert actor.returncode == 0, wrong


def test_a_lease_is_kept_whatever_the_clock_says(
    bucket: str, programs: Programs, wall: WallClock, tmp_path: Path
) -> None:
    storage = Storage.of(f"s3://{bucket}/runs")
    writer = programs.begin(sys.executable, "-c", WRITER, storage.uri, str(tmp_path / "spool"))
    assert writer.stdin is not None
    assert writer.stdout is not None
    for number, seconds in enumerate((0, HOUR, -HOUR, 0)):
        wall.set(seconds)
        writer.stdin.write(f"{number}\n")
        writer.stdin.flush()
        assert writer.stdout.readline().strip() == str(number), writer.communicate()
        with pytest.raises(StudyBusy, match="one writer at a time"):
            ObjectJournal(storage, spool=tmp_path / "other", ttl_seconds=2.0)
    _, wrong = writer.communicate(timeout=WAIT_SECONDS)
    assert writer.returncode == 0, wrong
    assert list(read_journal(storage)) == [[{"type": "started", "trial": number}] for number in range(4)]

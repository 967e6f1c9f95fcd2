"""A study that tunes and serves, on a store (moto) that errs, dawdles and goes away: nothing is lost."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.cli.options import STORAGE_VARIABLE
from orchestrator.cli.verifying import examine
from orchestrator.domain.errors import OrchestratorError
from orchestrator.study import Layout, read_study
from orchestrator.study.state import StudyState

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "orchestrator"
WAIT_SECONDS = 180.0
AWAY_SECONDS = 20.0


SLOW = """
import time
from trainables.testing import Quadratic

class Slow(Quadratic):
    def step(self):
        time.sleep(0.05)
        return super().step()
"""
BOWL: dict[str, Any] = {
    "study": "bowl",
    "trainable": "slow.py:Slow",
    "space": {"x": {"min": -5.0, "max": 5.0}},
    "objective": {"metric": "loss"},
    "search": "random",
    "scheduler": {"kind": "asha", "min": 1, "max": 9, "eta": 3},
    "budget": {"trials": 30},
    "timeout": "20s",  # a trial waits for its storage for a quarter of it
    "execution": "pooled",
}


class Course:
    """A study on a store behind a proxy; looked at past the proxy."""

    def __init__(self, folder: Path, given: Mapping[str, Any], storage: str, address: str) -> None:
        self.storage, self.study = storage, given["study"]
        (folder / "study.yaml").write_text(yaml.safe_dump(dict(given)))
        (folder / "slow.py").write_text(SLOW)
        self._options: dict[str, Any] = {
            "cwd": folder,
            "env": os.environ | {STORAGE_VARIABLE: address},
            "text": True,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        words = ["run", "study.yaml", "--traffic", "--quiet", "--json"]
        self.driver = subprocess.Popen([str(PROGRAM), *words], **self._options)

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([str(PROGRAM), *words], **self._options, timeout=WAIT_SECONDS, check=False)

    def state(self) -> StudyState | None:
        try:
            return read_study(self.storage, self.study).state
        except OrchestratorError:  # it has not begun
            return None

    def reports(self) -> int:
        state = self.state()
        return sum(len(trial.reports) for trial in state.trials) if state else 0

    def wait_for(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not condition():
            assert self.driver.poll() is None, self.driver.communicate()
            assert time.monotonic() < deadline, f"waited {WAIT_SECONDS:.0f} s for {what}"
            time.sleep(0.2)

    def wait_for_reports(self, more: int, what: str) -> None:
        goal = self.reports() + more
        self.wait_for(lambda: self.reports() >= goal, f"reports {what}")


@pytest.fixture
def begin(
    bucket: str, proxy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Mapping[str, Any]], Course]]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    begun: list[Course] = []

    def make(given: Mapping[str, Any]) -> Course:
        begun.append(Course(tmp_path, given, f"s3://{bucket}/runs", proxy.address(bucket)))
        return begun[-1]

    yield make
    proxy.is_cut, proxy.break_every, proxy.delay_seconds = False, 0, 0.0
    for course in begun:
        if course.driver.poll() is None:
            course.driver.kill()
            course.driver.communicate()
        course.command("down")


def test_errors_slowness_and_an_outage_while_tuning_and_serving(
    begin: Callable[[Mapping[str, Any]], Course], proxy: Any
) -> None:
    given = yaml.safe_load((ROOT / "examples" / "digits" / "study.yaml").read_text())
    given["budget"] = {"trials": 5000}  # more than are begun; `stop` ends it
    given["serve"]["port"] = 18534
    course = begin(given)
    course.wait_for(lambda: (state := course.state()) and state.promotions, "a promotion")
    proxy.break_every = 3
    course.wait_for_reports(30, "while one request in three goes wrong")
    assert proxy.broken > 10
    proxy.break_every, proxy.delay_seconds = 0, 1.0
    course.wait_for_reports(10, "while each request takes a second")
    proxy.delay_seconds, proxy.is_cut = 0.0, True
    time.sleep(AWAY_SECONDS)
    proxy.is_cut = False
    course.wait_for_reports(30, "after the outage")
    stopping = course.command("stop", "digits")
    assert stopping.returncode == 0, stopping.stderr
    wrote, said = course.driver.communicate(timeout=WAIT_SECONDS)
    assert course.driver.returncode == 0, said
    summary = json.loads(wrote)
    assert (summary["failed_requests"], summary["requests"] > 100) == (0, True), summary
    state = course.state()
    assert state is not None
    assert [failure for trial in state.trials for failure in trial.failures] == []
    assert [record.reason for record in state.bundles.values() if "cannot be" in record.reason] == []
    assert examine(course.storage, "digits")[0] == []
    assert Layout(course.storage, "digits").root.exists("summary.json")


def test_trials_that_waited_for_too_long_are_given_out_again_and_nobody_is_blamed(
    begin: Callable[[Mapping[str, Any]], Course], proxy: Any
) -> None:
    course = begin(BOWL)
    course.wait_for(lambda: course.reports() > 10, "reports")
    proxy.is_cut = True
    time.sleep(20.0)  # longer than a trial waits, shorter than the study does
    proxy.is_cut = False
    wrote, said = course.driver.communicate(timeout=WAIT_SECONDS)
    assert course.driver.returncode == 0, said
    state = course.state()
    assert state is not None
    assert [failure for trial in state.trials for failure in trial.failures] == []
    assert (json.loads(wrote)["trials"], state.reason) == (30, "finished")
    assert examine(course.storage, "bowl")[0] == []

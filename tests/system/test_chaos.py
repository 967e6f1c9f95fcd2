"""Random kill -9 of every kind of process while a study tunes and serves; the same command again; the laws hold.

`CHAOS_SEED=… CHAOS_KILLS=… pytest tests/system/test_chaos.py` takes another order, and more or fewer of them; at what
moment they come is left to the machine in any case.
"""

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from deploy import Client
from deploy.access.tokens import read_token
from orchestrator.cli.options import STORAGE_VARIABLE
from orchestrator.cli.verifying import examine
from orchestrator.domain.errors import EndpointError
from orchestrator.process_graph.session_file import SessionFile, session_path
from orchestrator.study import read_study, status
from trainables.data import load, split

pytestmark = [pytest.mark.system, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "orchestrator"
# twenty kills in this seed's order hit each kind of process
KILLS = int(os.environ.get("CHAOS_KILLS", "20"))
SEED = int(os.environ.get("CHAOS_SEED", "23"))
PATIENCE_SECONDS = 180.0
TRIALS = 2_000  # more than are begun before the last kill; then the budget is left to end it

# how the processes of a session are told apart; None: the command itself
VICTIMS = {
    "driver": None,
    "study actor": "ray::StudyActor",
    "runner": "ray::Runner",
    "worker": "ray::ResourceTrainable",
    "endpoint actor": "ray::EndpointActor",
    "replica": "ray::ServeReplica",
    "Serve controller": "ray::ServeController",
    "proxy": "ray::ProxyActor",
    "raylet": "raylet/raylet",
    "whole session": "session_keeper",
}
# without these no request can be answered; the death of any other must cost none
SERVING = {"replica", "proxy", "raylet", "whole session"}
PORT = 18531


class Asker:
    """Asks the endpoint all the time, from outside, and remembers when it answered and when not."""

    def __init__(self, storage: Path) -> None:
        self._rows = split(load("sklearn:digits")).test_x[:50].tolist()
        self._token_file = storage / "endpoints" / "digits" / "token"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._ask_on, name="asker", daemon=True)
        self.answered = 0
        self.errors: list[str] = []
        self.answered_at = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def _ask_on(self) -> None:
        while not self._token_file.exists():
            if self._stopping.wait(0.1):
                return
        with Client(f"http://127.0.0.1:{PORT}", read_token(self._token_file), timeout_seconds=30.0) as client:
            for row in cycle(self._rows):
                try:
                    client.predict([row])
                    self.answered += 1
                    self.answered_at = time.monotonic()
                except EndpointError as error:
                    if self.answered:  # before the first champion there is nothing to ask
                        self.errors.append(str(error))
                if self._stopping.wait(0.05):
                    return


class Course:
    """One study under fire."""

    def __init__(self, storage: Path) -> None:
        self.storage = storage
        self.study_file = storage.parent / "study.yaml"
        given = yaml.safe_load((ROOT / "examples" / "digits" / "study.yaml").read_text())
        given["budget"] = {"trials": TRIALS}
        given["serve"]["port"] = PORT
        self.study_file.write_text(yaml.safe_dump(given))
        self.driver: subprocess.Popen[bytes] | None = None
        self.commands = 0

    def command(self, *words: str) -> subprocess.Popen[bytes]:
        log = (self.storage.parent / "driver.log").open("ab")
        environment = os.environ | {STORAGE_VARIABLE: str(self.storage)}
        return subprocess.Popen([str(PROGRAM), *words], cwd=ROOT, env=environment, stdout=log, stderr=log)

    def keep_driving(self) -> None:
        """Gives the same command again where it has ended."""
        if self.driver is None or self.driver.poll() is not None:
            self.commands += 1
            self.driver = self.command("run", str(self.study_file))

    def progress(self) -> int:
        """How many reports the journal holds: what a kill must never make smaller."""
        try:
            return sum(len(trial.reports) for trial in read_study(self.storage, "digits").state.trials)
        except Exception:  # noqa: BLE001 - it is not there yet, or is being cut: asked again
            return -1

    def status(self) -> dict[str, Any]:
        return status(read_study(self.storage, "digits").state)

    def processes(self) -> list[psutil.Process]:
        session = SessionFile.read(session_path(self.storage))
        keeper = session.keeper.find() if session else None
        try:
            return [keeper, *keeper.children(recursive=True)] if keeper else []
        except psutil.NoSuchProcess:
            return []

    def find(self, victim: str) -> psutil.Process | None:
        mark = VICTIMS[victim]
        if mark is None:
            return psutil.Process(self.driver.pid) if self.driver and self.driver.poll() is None else None
        for process in self.processes():
            try:
                if mark in " ".join(process.cmdline()):
                    return process
            except psutil.NoSuchProcess:
                continue
        return None

    def wait_for_progress(self, more: int) -> None:
        goal = max(0, self.progress()) + more
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.progress() < goal:
            self.keep_driving()
            assert time.monotonic() < deadline, f"no progress within {PATIENCE_SECONDS:.0f} s; {self.log()}"
            time.sleep(0.2)

    def log(self) -> str:
        return (self.storage.parent / "driver.log").read_text(errors="replace")[-3000:]


@pytest.fixture
def course(tmp_path: Path) -> Iterator[Course]:
    found = Course(tmp_path / "runs")
    yield found
    if found.driver is not None and found.driver.poll() is None:
        found.driver.kill()
        found.driver.wait()
    found.command("down").wait(PATIENCE_SECONDS)


def left_running(storage: Path) -> list[str]:
    """Returns whatever has the storage in its environment or its arguments."""
    found = []
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
            ours = process.environ().get(STORAGE_VARIABLE) == str(storage) or str(storage) in line
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(f"{process.pid} {line}")
        except psutil.Error:
            continue
    return found


def wait_for_a_successor(course: Course, victim: str, pid: int) -> None:
    """Waits until another process does what the victim did: what its death costs comes before that."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := course.find(victim)) is None or found.pid == pid:
        course.keep_driving()
        assert time.monotonic() < deadline, f"no {victim} any more; {course.log()}"
        time.sleep(0.05)


def wait_for_an_answer(course: Course, asker: Asker, since: float) -> float:
    """Returns after how many seconds the endpoint has answered a request that was sent after `since`."""
    while asker.answered_at < since + 0.1:
        assert asker.is_alive()
        course.keep_driving()
        assert time.monotonic() < since + PATIENCE_SECONDS, f"no answer any more; {asker.errors[-1:]}; {course.log()}"
        time.sleep(0.05)
    return asker.answered_at - since


def test_a_study_survives_random_kills(course: Course) -> None:
    rng = random.Random(SEED)
    print(f"CHAOS_SEED={SEED}")
    killed: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    asker = Asker(course.storage)
    asker.start()
    reports = 0
    course.wait_for_progress(more=1)
    wait_for_an_answer(course, asker, time.monotonic())
    while killed.total() < KILLS:
        course.wait_for_progress(more=rng.randint(5, 60))
        now = course.progress()
        assert now >= reports, f"reports were lost: {reports} before, {now} now"
        reports = now
        victim = rng.choice(list(VICTIMS))
        wait_for_an_answer(course, asker, time.monotonic())
        failed_before = len(asker.errors)
        process = course.find(victim)
        if process is None:
            continue
        process.send_signal(signal.SIGKILL)
        killed[victim] += 1
        began = time.monotonic()
        wait_for_a_successor(course, victim, process.pid)
        course.wait_for_progress(more=1)
        wait_for_an_answer(course, asker, time.monotonic())
        failed = len(asker.errors) - failed_before
        lost[victim] += failed
        print(
            f"kill {killed.total()}: {victim} ({process.pid}) at {now} reports: {failed} requests failed, "
            f"all well after {time.monotonic() - began:.1f} s",
            flush=True,
        )
        assert victim in SERVING or not failed, (
            f"{victim} is not in the way of a request: {asker.errors[failed_before:]}"
        )
    course.wait_for_progress(more=30)
    stopping = course.command("stop", "digits")
    assert stopping.wait(PATIENCE_SECONDS) == 0, course.log()
    assert course.driver is not None
    course.driver.wait(PATIENCE_SECONDS)
    wait_for_an_answer(course, asker, time.monotonic())  # the endpoint outlives its study
    asker.stop()

    print(dict(killed), f"{course.commands} commands", f"{asker.answered} answers, lost: {dict(lost)}", flush=True)
    refused = [error for error in asker.errors if "refused with status 4" in error and "/-/routes" not in error]
    assert not refused, "no replica refuses a right request; a proxy that has no routes yet may"
    found, checked = examine(course.storage, "digits")
    assert found == [], found
    print(checked, flush=True)
    assert course.status()["promotions"] >= 1
    course.command("down").wait(PATIENCE_SECONDS)
    assert left_running(course.storage) == []

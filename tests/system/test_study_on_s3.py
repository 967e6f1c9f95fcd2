"""A whole study on S3 (moto), from the command line: run, read, extended, verified, killed; and its errors."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from orchestrator.cli.options import STORAGE_VARIABLE
from orchestrator.domain.errors import OrchestratorError
from orchestrator.journal import Storage
from orchestrator.process_graph.session_file import SessionFile, session_path
from orchestrator.study import Layout, read_study

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "orchestrator"
WAIT_SECONDS = 180.0
COMMAND_SECONDS = 300.0
BOWL = """
study: bowl
trainable: trainables.testing:Quadratic
space: {x: {min: -5.0, max: 5.0}, y: {min: -5.0, max: 5.0}}
objective: {metric: loss}
search: {engine: random}
scheduler: {kind: asha, min: 1, max: 9, eta: 3}
budget: {trials: 12}
execution: inline
"""


class CommandLine:
    """The program as people run it, on one storage."""

    def __init__(self, folder: Path, storage: str) -> None:
        self.folder = folder
        self.storage = storage

    def begin(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [str(PROGRAM), *words],
            cwd=self.folder,
            env=os.environ | {STORAGE_VARIABLE: self.storage},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        process = self.begin(*words)
        wrote, said = process.communicate(timeout=COMMAND_SECONDS)
        return subprocess.CompletedProcess(words, process.returncode, wrote, said)

    def json(self, *words: str) -> Any:
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def command_line(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "bowl.yaml").write_text(BOWL)
    line = CommandLine(tmp_path, f"s3://{bucket}/runs")
    yield line
    line.run("down")


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS:.0f} s for {what}"
        time.sleep(0.1)
    return found


def test_a_study_without_ray_runs_is_read_verified_and_extended(command_line: CommandLine) -> None:
    summary = command_line.json("run", "bowl.yaml", "--quiet")
    assert (summary["trials"], summary["reason"]) == (12, "finished")
    assert command_line.json("status", "bowl")["phase"] == "ended"
    assert [line["study"] for line in command_line.json("ls")] == ["bowl"]
    assert command_line.json("best", "bowl")["value"] == summary["best_value"]
    assert command_line.json("show", "bowl", "0")["checkpoint"]["uri"].startswith(command_line.storage)
    assert command_line.json("verify", "bowl")["breaches"] == []
    assert command_line.json("extend", "bowl", "--trials", "15")["runs"] is False
    assert command_line.json("resume", "bowl", "--quiet")["trials"] == 15
    assert command_line.json("verify", "bowl")["breaches"] == []
    root = Layout(command_line.storage, "bowl").root
    assert {"study.yaml", "summary.json"} <= set(root.names())
    assert command_line.json("run", "bowl.yaml", "--fresh", "--quiet")["trials"] == 12
    assert len(Storage.of(command_line.storage).folders(".old")) == 1


@pytest.mark.parametrize("words", [("run", "bowl.yaml"), ("ls",), ("status", "bowl"), ("verify", "bowl")])
def test_a_missing_bucket_is_one_line(command_line: CommandLine, words: tuple[str, ...]) -> None:
    command_line.storage = "s3://not-a-bucket-of-ours/runs"
    done = command_line.run(*words)
    [line] = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert line.startswith("error: s3://not-a-bucket-of-ours/runs cannot be listed: NO_SUCH_BUCKET")
    assert line.endswith("create the bucket, or correct the address")


def test_refused_keys_are_one_line(command_line: CommandLine, proxy: Any, bucket: str) -> None:
    command_line.storage = proxy.address(bucket)
    proxy.refuse, proxy.status, proxy.code = 1000, 403, "InvalidAccessKeyId"
    done = command_line.run("run", "bowl.yaml")
    [line] = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert "INVALID_ACCESS_KEY_ID" in line
    assert line.endswith("check AWS_ACCESS_KEY_ID, on every host")


def test_an_endpoint_that_does_not_listen_is_one_line_soon(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    began = time.monotonic()
    done = command_line.run("run", "bowl.yaml")
    [line] = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert "NETWORK_CONNECTION" in line
    assert "check the endpoint (AWS_ENDPOINT_URL" in line
    assert time.monotonic() - began < 20


def test_a_storage_that_goes_away_for_a_while_delays_a_study_and_nothing_more(
    command_line: CommandLine, proxy: Any, bucket: str
) -> None:
    command_line.storage = proxy.address(bucket)
    driver = command_line.begin("run", "bowl.yaml", "--quiet", "--json")
    layout = Layout(f"s3://{bucket}/runs", "bowl")
    wait_for(lambda: layout.exists() and layout.journal.names("0"), "the journal")
    proxy.is_cut = True
    time.sleep(3.0)
    proxy.is_cut = False
    wrote, said = driver.communicate(timeout=COMMAND_SECONDS)
    assert driver.returncode == 0, said
    assert json.loads(wrote)["trials"] == 12
    assert command_line.json("verify", "bowl")["breaches"] == []


class Kills:
    """The processes of the one session on a storage, by their names."""

    def __init__(self, storage: str) -> None:
        self._storage = storage

    def find(self, mark: str) -> psutil.Process | None:
        session = SessionFile.read(session_path(self._storage))
        keeper = session.keeper.find() if session else None
        try:
            for process in keeper.children(recursive=True) if keeper else []:
                if mark in " ".join(process.cmdline()):
                    return process
        except psutil.NoSuchProcess:
            return None
        return None

    def kill(self, mark: str) -> None:
        victim = wait_for(lambda: self.find(mark), f"a process {mark}")
        victim.send_signal(signal.SIGKILL)
        wait_for(lambda: (after := self.find(mark)) and after.pid != victim.pid, f"another {mark}")


def test_a_served_study_outlives_its_killed_study_actor_and_worker(
    command_line: CommandLine, bucket: str, tmp_path: Path
) -> None:
    given = yaml.safe_load((ROOT / "examples" / "digits" / "study.yaml").read_text())
    given["budget"] = {"trials": 400}  # more than are begun before the last kill; `stop` ends it
    given["serve"]["port"] = 18532
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(given))
    driver = command_line.begin("run", "digits.yaml", "--traffic", "--quiet", "--json")
    layout = Layout(command_line.storage, "digits")

    def reports() -> int:
        return sum(len(trial.reports) for trial in read_study(layout.storage, "digits").state.trials)

    def is_promoted() -> bool:
        assert driver.poll() is None, driver.communicate()
        try:
            return read_study(layout.storage, "digits").state.promotions > 0
        except OrchestratorError:  # it has not begun
            return False

    wait_for(is_promoted, "a promotion")
    for mark in ("ray::StudyActor", "ray::ResourceTrainable"):
        before = reports()
        Kills(command_line.storage).kill(mark)
        assert reports() >= before, "reports were lost"
        wait_for(lambda known=before: reports() > known + 20, f"progress after the end of {mark}")
    assert command_line.run("stop", "digits").returncode == 0
    wrote, said = driver.communicate(timeout=COMMAND_SECONDS)
    assert driver.returncode == 0, said
    summary = json.loads(wrote)
    assert (summary["requests"] > 100, summary["failed_requests"]) == (True, 0), summary
    assert summary["promotions"] >= 1
    assert command_line.json("verify", "digits")["breaches"] == []
    assert all(trial.crashes <= 1 for trial in read_study(layout.storage, "digits").state.trials)

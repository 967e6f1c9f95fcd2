"""A full disk: nothing is acknowledged that is not there, no trial is blamed, and with room again all goes on."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from full_disk import SmallDisk, can_mount

from orchestrator.cli.options import STORAGE_VARIABLE
from orchestrator.cli.verifying import examine
from orchestrator.domain.errors import OrchestratorError, StorageError
from orchestrator.journal import open_journal, read_journal
from orchestrator.study import read_study
from orchestrator.tuning.checkpoints import CheckpointStore

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not can_mount(), reason="a small disk has to be mounted: needs root"),
]

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "orchestrator"
WAIT_SECONDS = 180.0
SLOW = """
import time
from trainables.testing import Quadratic

class Slow(Quadratic):
    def step(self):
        time.sleep(0.02)
        return super().step()

    def save(self, directory):
        super().save(directory)
        (directory / "more").write_bytes(bytes(20_000))
"""
BOWL = """
study: bowl
trainable: slow.py:Slow
space: {x: {min: -5.0, max: 5.0}}
objective: {metric: loss}
search: {engine: random}
scheduler: {kind: asha, min: 1, max: 9, eta: 3}
budget: {trials: 100}
timeout: 10s
execution: inline
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    made = SmallDisk(tmp_path / "disk", megabytes=48)
    yield made
    made.remove()


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WAIT_SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {WAIT_SECONDS:.0f} s for {what}"
        time.sleep(0.05)
    return found


def event(number: int) -> list[dict[str, Any]]:
    return [{"type": "started", "trial": number, "why": "x" * 5000}]


def reports(storage: Path, study: str) -> int:
    try:
        return sum(len(trial.reports) for trial in read_study(storage, study).state.trials)
    except OrchestratorError:  # it has not begun
        return 0


def test_a_journal_acknowledges_nothing_that_is_not_there_and_goes_on_with_room(disk: SmallDisk) -> None:
    place = disk.place / "journal"
    journal = open_journal(place)
    journal.append(event(0))
    disk.fill()
    for _ in range(3):
        with pytest.raises(StorageError, match=r"cannot be written: No space left on device; .* the disk has room"):
            journal.append(event(1))
    assert list(read_journal(place)) == [event(0)]
    disk.make_room()
    journal.append(event(2))
    assert list(read_journal(place)) == [event(0), event(1), event(1), event(1), event(2)]
    journal.close()


def test_a_writer_that_dies_on_a_full_disk_leaves_what_was_acknowledged(disk: SmallDisk) -> None:
    place = disk.place / "journal"
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from orchestrator.journal import open_journal\n"
        "journal = open_journal(Path(sys.argv[1]))\n"
        "for number in range(10_000):\n"
        "    journal.append([{'type': 'started', 'trial': number, 'why': 'x' * 5000}])\n"
        "    os.write(1, b'%d\\n' % number)\n"
    )
    writer = subprocess.run(
        [sys.executable, "-c", program, str(place)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert writer.returncode == 1
    assert "No space left on device" in writer.stderr
    acknowledged = len(writer.stdout.split())
    assert list(read_journal(place)) == [event(number) for number in range(acknowledged)]
    with pytest.raises(StorageError, match="No space left on device"):
        open_journal(place)
    assert list(read_journal(place)) == [event(number) for number in range(acknowledged)]


def test_a_checkpoint_blames_the_disk_whatever_its_writer_says(disk: SmallDisk) -> None:
    store = CheckpointStore(disk.place / "checkpoints")

    def write(directory: Path) -> bool:
        torch.save({"weights": torch.zeros(500_000)}, directory / "state.pt")  # raises a RuntimeError of its own
        return True

    assert store.publish(0, 1, write) is not None
    disk.fill()
    with pytest.raises(
        StorageError, match=r"checkpoint of trial 0 cannot be written .*: No space left on device; free"
    ):
        store.publish(0, 2, write)
    disk.make_room()
    ref = store.publish(0, 2, write)
    assert ref is not None
    assert store.fetch(ref).is_dir()
    assert sorted(path.name for path in (disk.place / "checkpoints" / "00000").iterdir()) == ["00001", "00002"]


def test_a_study_ends_with_one_line_and_the_same_command_goes_on(disk: SmallDisk, tmp_path: Path) -> None:
    (tmp_path / "bowl.yaml").write_text(BOWL)
    (tmp_path / "slow.py").write_text(SLOW)
    storage = disk.place / "runs"
    command = [str(PROGRAM), "run", "bowl.yaml", "--quiet", "--json"]
    given: dict[str, Any] = {"cwd": tmp_path, "env": os.environ | {STORAGE_VARIABLE: str(storage)}, "text": True}
    for goal in (30, 120):
        running = subprocess.Popen(command, **given, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_for(lambda more=goal: reports(storage, "bowl") > more, "reports")
        disk.fill()
        before = reports(storage, "bowl")
        _, said = running.communicate(timeout=WAIT_SECONDS)
        assert running.returncode == 1
        [line] = said.strip().splitlines()
        assert line.startswith("error: ")
        assert "No space left on device" in line
        assert reports(storage, "bowl") >= before
        disk.make_room()
        assert examine(storage, "bowl")[0] == []
    done = subprocess.run(command, **given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["trials"], summary["failed_trials"], summary["reason"]) == (100, 0, "finished")
    assert examine(storage, "bowl")[0] == []


def test_a_study_that_serves_waits_for_room_and_goes_on_by_itself(disk: SmallDisk, tmp_path: Path) -> None:
    given = yaml.safe_load((ROOT / "examples" / "digits" / "study.yaml").read_text())
    given["budget"] = {"trials": 2000}  # more than are begun; `stop` ends it
    given["space"] |= {"layers": {"min": 1, "max": 2}, "width": {"min": 16, "max": 32}}  # what it keeps has to fit
    given["serve"]["port"] = 18533
    (tmp_path / "digits.yaml").write_text(yaml.safe_dump(given))
    storage = disk.place / "runs"
    options: dict[str, Any] = {"cwd": tmp_path, "env": os.environ | {STORAGE_VARIABLE: str(storage)}, "text": True}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    driver = subprocess.Popen(
        [str(PROGRAM), "run", "digits.yaml", "--traffic", "--quiet", "--json"], **options, **pipes
    )
    try:
        wait_for(lambda: driver.poll() or reports(storage, "digits") > 40, "reports")
        disk.fill()
        known = -1
        while (now := reports(storage, "digits")) > known:  # until nothing more gets through
            known = now
            time.sleep(10.0)
        disk.make_room()
        wait_for(lambda: driver.poll() or reports(storage, "digits") > known + 40, "progress with room again")
        stopping = subprocess.run(
            [str(PROGRAM), "stop", "digits"], **options, **pipes, timeout=WAIT_SECONDS, check=False
        )
        assert stopping.returncode == 0, stopping.stderr
        wrote, said = driver.communicate(timeout=WAIT_SECONDS)
        assert driver.returncode == 0, said
    finally:
        driver.kill()
        driver.communicate()
        subprocess.run([str(PROGRAM), "down"], **options, **pipes, timeout=WAIT_SECONDS, check=False)
    summary = json.loads(wrote)
    assert [failure for trial in read_study(storage, "digits").state.trials for failure in trial.failures] == []
    assert (summary["failed_requests"], summary["requests"] > 100) == (0, True), summary
    assert examine(storage, "digits")[0] == []

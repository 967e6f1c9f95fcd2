"""The command line as people use it: in processes of its own, with a storage of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from orchestrator.cli.options import STORAGE_VARIABLE

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "digits" / "study.yaml"
PROGRAM = Path(sys.executable).parent / "orchestrator"
PATIENCE_SECONDS = 150.0


def wait_for(happened: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:.0f} s"
        time.sleep(0.05)


@dataclass
class CommandLine:
    """`orchestrator` on one storage, which everything that it starts has in its environment."""

    storage: Path
    study_file: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(PROGRAM), *words],
            cwd=ROOT,
            env=os.environ | {STORAGE_VARIABLE: str(self.storage)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.started.append(process)
        return process

    def finish(self, *words: str) -> tuple[int, str, str]:
        """Returns exit code, stdout and stderr."""
        process = self.start(*words)
        out, err = process.communicate(timeout=PATIENCE_SECONDS)
        return process.returncode, out, err

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.storage / "digits" / "summary.json").read_text())
        return found

    def left_running(self) -> list[str]:
        """Returns every process that has the storage in its environment, or names it."""
        return [line for process in psutil.process_iter() if (line := self._ours(process))]

    def _ours(self, process: psutil.Process) -> str:
        try:
            line = " ".join(process.cmdline())
            is_ours = process.environ().get(STORAGE_VARIABLE) == str(self.storage) or str(self.storage) in line
            gone = process.status() == psutil.STATUS_ZOMBIE
        except psutil.Error:
            return ""
        return f"{process.pid} {line}" if is_ours and not gone else ""


@pytest.fixture(scope="module")
def command_line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CommandLine]:
    place = tmp_path_factory.mktemp("end_to_end")
    given = yaml.safe_load(EXAMPLE.read_text())
    given["budget"] = {"trials": 12, "time": "120s"}
    given["serve"]["port"] = 18431
    study_file = place / "study.yaml"
    study_file.write_text(yaml.safe_dump(given))
    line = CommandLine(place / "runs", study_file)
    yield line
    for process in line.started:
        if process.poll() is None:
            process.kill()
    line.finish("down")
    assert line.left_running() == []

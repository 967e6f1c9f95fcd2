"""The example in which drift starts a search, as its page has it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.options import STORAGE_VARIABLE

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
PROGRAM = Path(sys.executable).parent / "orchestrator"


def test_june_s_model_takes_over_from_january_s(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != STORAGE_VARIABLE}
    environment["PYTHONPATH"] = str(ROOT)

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done.stdout

    try:
        told = run(sys.executable, str(ROOT / "examples" / "retune" / "retune.py"))
        history = run(str(PROGRAM), "history", "gas", "--storage", "runs-retune")
    finally:
        run(str(PROGRAM), "down", "--storage", "runs-retune")
    last = told.strip().splitlines()
    assert "celsius" in last[-2]
    assert last[-1].endswith("of the study gas-june")
    before, after = (float(last[-2].split(word)[1].split()[0].strip(",.")) for word in ("June was ", "and is "))
    assert after < before / 2
    assert "canary 33%" in history

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deploy.bundle import Bundle, Kind, Lineage, Schema, constant_model, write_bundle

SCHEMA = Schema(columns=("width", "height", "depth"), kind=Kind.CLASSIFICATION, labels=("cat", "dog"))


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str = "1", scores: tuple[float, ...] = (0.25, 0.75), trial: int = 12) -> Path:
        return write_bundle(
            tmp_path / "bundles" / name,
            onnx_model=constant_model(3, scores),
            schema=SCHEMA,
            lineage=Lineage("digits", trial, 27, {"lr": 0.1}, 0.97, "val_accuracy", "abc", 1, {"torch": "2"}, "2026"),
            sample_rows=np.ones((4, 3), dtype=np.float32),
        )

    return make


@pytest.fixture
def bundle(make_bundle: Callable[..., Path]) -> Bundle:
    return Bundle.open(make_bundle())


DIES = """
import os, signal, sys
from contextlib import nullcontext
from pathlib import Path
from deploy.answering.black_box import BlackBox

box = BlackBox(Path(sys.argv[1]))
with box.computing(1):
    pass
with box.computing(int(sys.argv[2])) if sys.argv[2] != "None" else nullcontext():
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def die_computing() -> Callable[..., None]:
    """Has a process killed while it computes for the challenger of a rollout; None: while it does not."""

    def die(folder: Path, *, rollout: int | None) -> None:
        ended = subprocess.run([sys.executable, "-c", DIES, str(folder), str(rollout)], timeout=60)
        assert ended.returncode == -signal.SIGKILL

    return die

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

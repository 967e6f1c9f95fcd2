"""A mixed table from a file, through every family, to a bundle that answers raw rows as the model does."""

import random
from pathlib import Path

import numpy as np
import pytest

from deploy.bundle import Bundle, Lineage
from trainables.contract import Context
from trainables.data import load, split
from trainables.table.estimators import FAMILIES
from trainables.table.families import Families


@pytest.fixture
def table(tmp_path: Path) -> Path:
    rng = random.Random(0)
    lines = ["age,plan,note,left"]
    for _ in range(240):
        age, plan = rng.randint(18, 80), rng.choice(["basic", "plus", "pro"])
        left = "yes" if (age < 40) != (plan == "pro") else "no"
        shown = "" if rng.random() < 0.1 else str(age)
        lines.append(f"{shown},{plan if rng.random() > 0.1 else ''},{rng.choice(['a', 'b'])},{left}")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_learns_goes_on_and_is_served_from_raw_rows(table: Path, tmp_path: Path, family: str) -> None:
    parts = split(load(str(table), target="left"))
    context = Context(seed=1)
    whole, resumed = Families(), Families()
    whole.build({"family": family}, parts, context)
    first = whole.step()
    (tmp_path / "saved").mkdir()
    whole.save(tmp_path / "saved")
    second = whole.step()
    resumed.build({"family": family}, parts, context)
    resumed.load(tmp_path / "saved")
    assert dict(resumed.step()) == dict(second), "a saved trial goes on as if nothing had happened"
    assert first["val_accuracy"] > 0.55

    target = tmp_path / "bundle"
    whole.export(target, Lineage("table", 0, 2))
    bundle = Bundle.open(target)
    answer = bundle.predict(parts.test_x)
    assert np.allclose(answer.scores, whole.predict(parts.test_x), atol=1e-4)

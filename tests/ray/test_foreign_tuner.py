"""`StudySearcher` and `StudyScheduler` in a Tuner that somebody else wrote, with a trainable that knows no study."""

import time
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from studies import specification

from orchestrator.study import StudyKeeper
from orchestrator.tuning.native import StudyScheduler, StudySearcher
from orchestrator.tuning.slot_desk import SlotDesk

pytestmark = pytest.mark.ray


def foreign_trainable() -> type:
    """Returns somebody's own trainable, with Tune's own checkpoints; made here, so that it travels by value."""

    class Foreign(tune.Trainable):  # type: ignore[misc]
        def setup(self, config: dict[str, Any]) -> None:
            self.point, self.done_steps = (config["x"], config["y"]), 0

        def step(self) -> dict[str, float]:
            self.done_steps += 1
            x, y = self.point
            return {"loss": (x - 1) ** 2 + (y + 2) ** 2 + 1 / self.done_steps}

        def save_checkpoint(self, checkpoint_dir: str) -> dict[str, int]:
            return {"steps": self.done_steps}

        def load_checkpoint(self, checkpoint: dict[str, int]) -> None:
            self.done_steps = checkpoint["steps"]

    return Foreign


def test_a_foreign_tuner_follows_the_study(ray_session: str, tmp_path: Path) -> None:
    given = specification(tmp_path, "foreign", trainable="", budget={"trials": 6}, scheduler={"kind": "asha", "max": 3})
    keeper = StudyKeeper.open(given, time.time, storage=tmp_path)
    desk = SlotDesk.local(keeper, slots=2)
    tune.Tuner(
        foreign_trainable(),
        tune_config=tune.TuneConfig(
            search_alg=StudySearcher(desk), scheduler=StudyScheduler(desk), num_samples=-1, metric="loss", mode="min"
        ),
        run_config=tune.RunConfig(verbose=0, storage_path=str(tmp_path / "tune")),
    ).fit()
    state = keeper.study.state
    keeper.close()
    assert desk.errors == []
    assert state.reason == "finished"
    assert len(state.trials) == 6
    assert {trial.last_step for trial in state.trials} == {1, 3}, (
        "some were promoted, the others wait at the first rung"
    )
    for trial in state.trials:
        x, y = trial.params["x"], trial.params["y"]
        step, metrics = trial.reports[-1]
        assert metrics["loss"] == pytest.approx((x - 1) ** 2 + (y + 2) ** 2 + 1 / step), "it went on where it paused"

"""A study that runs is reached from any other process of its cluster; what no host can hold is refused at once."""

from pathlib import Path

import pytest
from studies import SLOWLY, begin, specification, wait_for

from orchestrator import connect
from orchestrator.domain.errors import ClusterError, InvalidInput, UnknownStudy
from orchestrator.study import Phase

pytestmark = pytest.mark.ray


def test_a_running_study_is_found_asked_fed_and_stopped(ray_session: str, tmp_path: Path) -> None:
    given = specification(tmp_path, "reached", trainable=SLOWLY, budget={"trials": 500})
    running = begin(given, ray_session)
    try:
        study = connect("reached", address=ray_session)
        study.enqueue({"x": 0.25, "y": -0.25})
        wait_for(lambda: study.status["best"], "a value")
        assert study.best_value == study.status["best"]["value"]
        assert set(study.best_params) == {"x", "y"}
        with pytest.raises(InvalidInput):
            study.enqueue({"x": 99.0, "y": 0.0})
        study.stop()
        wait_for(lambda: study.status["phase"] == Phase.ENDED, "its end")
    finally:
        running.release()


def test_a_study_that_does_not_run_is_said_to_do_so(ray_session: str) -> None:
    with pytest.raises(UnknownStudy, match="nobody-began-this"):
        connect("nobody-began-this", address=ray_session)


def test_what_no_host_can_hold_is_refused_before_anything_is_begun(ray_session: str, tmp_path: Path) -> None:
    given = specification(tmp_path, "giant", resources={"cpu": 4096})
    with pytest.raises(ClusterError, match=r"4096 CPU.*largest host"):
        begin(given, ray_session)
    assert not (tmp_path / "giant").exists()

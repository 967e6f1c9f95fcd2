import io
from typing import Any

import pytest
from rich.console import Console

from orchestrator.api.study_file import read_study_file
from orchestrator.cli.live import LiveView
from orchestrator.cli.plain import LINE_SECONDS, PlainLines
from orchestrator.cli.summary import Ending, closing_block, summary
from orchestrator.cli.view import Moment, TrafficCount, execution_line, requests, rows
from orchestrator.domain.specification import StudySpecification
from tests.end_to_end.conftest import EXAMPLE


@pytest.fixture
def specification() -> StudySpecification:
    return read_study_file(EXAMPLE, {"budget": {"trials": 68, "time": None}})


def status_of(**changes: Any) -> dict[str, Any]:
    trial = {"trial": 3, "value": 0.9861, "step": 9, "params": {"lr": 0.01}}
    return {
        "study": "digits",
        "metric": "val_accuracy",
        "phase": "running",
        "reason": "",
        "trials": 12,
        "states": {"running": 2, "paused": 8, "complete": 2, "failed": 0},
        "budget": {"trials": 68, "seconds": 100.0},
        "seconds": 25.0,
        "seconds_left": 75.0,
        "workers": 2,
        "rungs": [{"resource": 1, "trials": 12, "promoted": 4}, {"resource": 3, "trials": 4, "promoted": 1}],
        "baseline": 0.1,
        "default": trial | {"trial": 0, "value": 0.96},
        "best": trial,
        "champion": {"version": "2", "trial": 3, "step": 9, "value": 0.9861},
        "promotions": 2,
        "failed_trials": 0,
    } | changes


def runner_of(**changes: Any) -> dict[str, Any]:
    endpoint = {
        "url": "http://127.0.0.1:8001",
        "port": 8001,
        "asked_port": 8000,
        "token_file": "token",
        "ingress": "HAProxy",
    }
    return {"execution": "pooled", "slots": 2, "endpoint": endpoint, "endpoint_error": ""} | changes


def test_the_execution_is_said_in_a_line(specification: StudySpecification) -> None:
    assert execution_line(specification, "pooled", 2) == "Ray Tune: 2 workers, 68 trials, rungs 1·3·9·27"
    assert "one slot per trial" in execution_line(specification, "tune", 2)
    assert "without Ray" in execution_line(specification, "inline", 1)


def test_everything_that_is_known_is_shown() -> None:
    count = TrafficCount(40, 1, 2, {"1": 20, "2": 19})
    shown = dict(rows(Moment(status_of(), runner_of(), count, serves=True)))
    assert shown["trials"] == "12 of 68  (2 running, 8 paused, 2 complete)"
    assert shown["rungs"] == "step 1: 12   step 3: 4"
    assert shown["best"] == "val_accuracy 0.9861 (trial 3, step 9)   default 0.96   baseline 0.1"
    assert shown["workers"] == "2 busy of 2"
    where = "http://127.0.0.1:8001 (port 8000 is taken) behind HAProxy"
    assert shown["endpoint"] == f"{where}, version 2 (trial 3, step 9)"
    assert shown["requests"] == "40 sent, by 2 versions, 1 failed, 2 retried"
    assert shown["time"] == "25 s, at most 1 min 15 s left"


def test_an_endpoint_that_did_not_come_up_says_why() -> None:
    runner = runner_of(endpoint=None, endpoint_error="no CPU is free")
    assert dict(rows(Moment(status_of(), runner, serves=True)))["endpoint"] == "there is none: no CPU is free"
    waiting = runner_of(endpoint=None)
    assert dict(rows(Moment(status_of(), waiting, serves=True)))["endpoint"] == "starting…"


def test_the_bar_follows_the_limit_that_is_nearest() -> None:
    assert Moment(status_of()).fraction == 0.25
    assert Moment(status_of(budget={"trials": 12, "seconds": None})).fraction == 1.0
    assert Moment(status_of(budget={"trials": None, "seconds": None})).fraction is None


def test_plain_lines_are_few(specification: StudySpecification, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = PlainLines(specification, lambda: None, lambda: now[0])
    lines.say("starting Ray… 0 s")
    lines.say("starting Ray… 1 s")
    for trials in range(10):
        lines.look(status_of(trials=trials, champion=None), runner_of())
    assert len(capsys.readouterr().err.splitlines()) == 3  # Ray, which way, the first progress
    now[0] = LINE_SECONDS
    lines.look(status_of(trials=20, champion=None), runner_of())
    assert "20/68 trials" in capsys.readouterr().err
    lines.look(status_of(trials=20), runner_of())
    assert "version 2" in capsys.readouterr().err


def test_the_live_view_draws_what_is_known(specification: StudySpecification) -> None:
    console = Console(width=100, file=io.StringIO())
    view = LiveView(specification, lambda: None, console)
    view.say("starting Ray…")
    view.look(status_of(), runner_of())
    drawn = view.draw(Moment(status_of(), runner_of(), serves=True))
    view.close()
    paper = Console(width=100, file=io.StringIO(), record=True)
    paper.print(drawn)
    text = paper.export_text()
    assert "Ray Tune: 2 workers" in text
    assert "version 2" in text


def test_the_summary_has_the_names_that_programs_rely_on(specification: StudySpecification, tmp_path: Any) -> None:
    scores = {"metric": "accuracy", "champion": 0.98, "default": 0.96, "baseline": 0.1, "curl": "curl x", "problem": ""}
    ended = status_of(phase="ended", reason="finished")
    ending = Ending(
        specification, tmp_path, ended | {"study_seconds": 25.0}, {"spent": 30, "full": 120}, scores, TrafficCount(40)
    )
    data = summary(ending)
    assert data["test_accuracy"] == 0.98
    assert data["default_accuracy"] == 0.96
    assert data["requests"] == 40
    assert data["failed_requests"] == 0
    text = closing_block(data, specification, tmp_path)
    assert "accuracy 0.9800 through HTTP   default 0.9600   baseline 0.1000" in text
    assert "75% by early stopping" in text
    assert text.splitlines()[-1] == "curl x"


def test_of_a_regression_the_accuracy_is_null(specification: StudySpecification, tmp_path: Any) -> None:
    scores = {"metric": "r2", "champion": 0.7, "default": 0.6, "baseline": 0.0, "curl": "", "problem": ""}
    data = summary(Ending(specification, tmp_path, status_of(), None, scores))
    assert data["test_accuracy"] is None
    assert data["test_value"] == 0.7


def test_requests_are_said_in_a_line() -> None:
    assert requests(TrafficCount(3)) == "3 sent, 0 failed"


def test_a_storage_that_is_waited_for_is_said_with_its_reason_and_when_it_is_back(
    specification: StudySpecification, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = runner_of(storage_error="/runs cannot be written: No space left on device")
    assert dict(rows(Moment(status_of(), missing)))["storage"] == f"waited for: {missing['storage_error']}"
    lines = PlainLines(specification, lambda: None)
    for runner in (runner_of(), missing, missing, runner_of(storage_error="")):
        lines.look(status_of(), runner)
    said = [line.partition("storage: ")[2] for line in capsys.readouterr().err.splitlines() if "storage: " in line]
    assert said == [f"waited for: {missing['storage_error']}", "it is there again"]


def test_a_challenger_that_waits_is_said_once(
    specification: StudySpecification, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = PlainLines(specification, lambda: None)
    for waits in (
        "",
        "version 3 waits: it is at 5 %",
        "version 3 waits: it is at 5 %, asked 7 times",
        "",
        "one waits: x",
    ):
        lines.look(status_of(), runner_of(challenger=waits))
    said = [
        line.partition("challenger: ")[2] for line in capsys.readouterr().err.splitlines() if "challenger: " in line
    ]
    assert said == ["version 3 waits: it is at 5 %", "one waits: x"]

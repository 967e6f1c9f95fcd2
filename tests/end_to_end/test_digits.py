"""One story on one storage: a run is interrupted, resumed by the command it printed, served, asked, and ended."""

import json
import os
import re
import shlex
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.domain.errors import OrchestratorError
from orchestrator.study import read_study
from tests.end_to_end.conftest import CommandLine, wait_for

pytestmark = pytest.mark.slow


@dataclass
class Told:
    """What a command ended with."""

    code: int
    out: str
    err: str
    left: list[str]


def begun(line: CommandLine) -> int:
    try:
        return len(read_study(line.storage, "digits").state.trials)
    except OrchestratorError:
        return 0


@pytest.fixture(scope="module")
def interrupted(command_line: CommandLine) -> Told:
    process = command_line.start("run", str(command_line.study_file), "--traffic")
    wait_for(lambda: begun(command_line) or process.poll() is not None, "a trial begun")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    return Told(process.returncode, out, err, command_line.left_running())


@pytest.fixture(scope="module")
def resumed(command_line: CommandLine, interrupted: Told) -> Told:
    words = shlex.split(interrupted.err.strip().splitlines()[-1])
    assert Path(words[0]).name == "orchestrator"
    return Told(*command_line.finish(*words[1:]), command_line.left_running())


@pytest.fixture(scope="module")
def served(command_line: CommandLine, resumed: Told) -> Told:
    assert resumed.code == 0
    return Told(*command_line.finish("serve", "digits"), [])


def test_an_interrupt_leaves_nothing_running_and_says_how_to_go_on(interrupted: Told) -> None:
    assert interrupted.code == 130
    assert "Traceback" not in interrupted.err
    assert interrupted.left == []


def test_the_printed_command_resumes_the_study_to_its_end(command_line: CommandLine, resumed: Told) -> None:
    assert resumed.code == 0, resumed.err
    state = read_study(command_line.storage, "digits").state
    assert state.epoch >= 2
    assert len(state.trials) == 12
    assert [trial.number for trial in state.trials] == list(range(12))


def test_a_run_ends_with_a_summary_and_no_failed_request(command_line: CommandLine, resumed: Told) -> None:
    summary = command_line.summary()
    assert summary["study"] == "digits"
    assert summary["trials"] == 12
    assert summary["promotions"] >= 1
    assert summary["failed_requests"] == 0
    assert summary["test_accuracy"] > 0.9
    assert summary["default_accuracy"] > 0.9
    assert summary["best_value"] > 0.9
    assert summary["seconds"] > 0
    assert f"{summary['test_accuracy']:.4f} through HTTP" in resumed.out


def test_a_run_leaves_nothing_running(resumed: Told) -> None:
    assert resumed.left == []


def test_ray_makes_no_noise(resumed: Told) -> None:
    assert all(re.match(r"digits +[0-9.]+ s  ", line) for line in resumed.err.splitlines()), resumed.err


def test_an_ended_study_is_shown_again(command_line: CommandLine, resumed: Told) -> None:
    code, out, err = command_line.finish("run", str(command_line.study_file))
    assert code == 0
    assert "through HTTP" in out
    assert "--fresh" in err


def test_the_printed_line_of_curl_works_when_pasted(served: Told, resumed: Told) -> None:
    assert served.code == 0, served.err
    for told in (served, resumed):
        line = next(line for line in told.out.splitlines() if line.startswith("curl "))
        pasted = subprocess.run(line, shell=True, capture_output=True, text=True, timeout=30, check=True)
        assert len(json.loads(pasted.stdout)["predictions"]) == 1


def test_predict_sends_the_rows_of_a_file(command_line: CommandLine, served: Told) -> None:
    rows = command_line.storage / "rows.json"
    rows.write_text(json.dumps([[0] * 64, [8] * 64]))
    code, out, err = command_line.finish("predict", "digits", str(rows), "--json")
    assert code == 0, err
    assert len(json.loads(out)["predictions"]) == 2


def test_the_graph_shows_the_endpoint_and_its_replica(command_line: CommandLine, served: Told) -> None:
    code, out, err = command_line.finish("status", "--graph", "--json")
    assert code == 0, err
    graph: dict[str, Any] = json.loads(out)
    endpoint = next(node for node in graph["nodes"] if node["kind"] == "endpoint actor")
    assert [child["kind"] for child in endpoint["children"]] == ["replica"]
    assert graph["cpus"]["serving"] == 1
    assert graph["cpus"]["total"] == (os.cpu_count() or 1) + 1


FLOWERS = {
    "study": "flowers",
    "data": "sklearn:iris",
    "trainable": "trainables.sklearn.logistic_regression",
    "space": {"C": {"min": 0.01, "max": 10.0, "log": True}},
    "objective": {"metric": "val_accuracy", "goal": "maximize"},
    "budget": {"trials": 3},
    "serve": {"share": "digits"},
}


def test_a_study_feeds_another_model_in_the_same_replicas_and_leaves_the_first_alone(
    command_line: CommandLine, served: Told
) -> None:
    study_file = command_line.study_file.with_name("flowers.yaml")
    study_file.write_text(yaml.safe_dump(FLOWERS))
    code, out, err = command_line.finish("run", str(study_file))
    assert code == 0, err
    assert "through HTTP" in out
    assert "the endpoint goes on; ask it" in out
    for name, row in (("digits", [0] * 64), ("flowers", [5.1, 3.5, 1.4, 0.2])):
        code, out, err = predict(command_line, name, row)
        assert (code, json.loads(out)["study"]) == (0, name), err


def predict(command_line: CommandLine, name: str, row: list[float]) -> tuple[int, str, str]:
    rows = command_line.storage / "rows.json"
    rows.write_text(json.dumps([row]))
    return command_line.finish("predict", name, str(rows), "--json")


def test_an_endpoint_is_ended_alone_and_comes_back_where_it_was(command_line: CommandLine, served: Told) -> None:
    code, _, err = command_line.finish("down", "digits")
    assert (code, "In the replicas of 'digits' live flowers, too" in err) == (1, True)
    assert "ended endpoint 'flowers'" in command_line.finish("down", "flowers")[1]
    assert predict(command_line, "flowers", [5.1, 3.5, 1.4, 0.2])[0] == 1
    assert predict(command_line, "digits", [0.0] * 64)[0] == 0
    code, out, err = command_line.finish("serve", "flowers")
    assert (code, "shared with 'digits'" in out) == (0, True), err
    assert predict(command_line, "flowers", [5.1, 3.5, 1.4, 0.2])[0] == 0


def test_down_ends_everything(command_line: CommandLine, served: Told) -> None:
    code, out, err = command_line.finish("down")
    assert code == 0, err
    assert "endpoint 'digits'" in out
    assert "endpoint 'flowers'" in out
    assert command_line.left_running() == []
    assert "nothing runs" in command_line.finish("down")[1]


def test_down_ends_the_command_that_watches_too(command_line: CommandLine, served: Told) -> None:
    watched = command_line.start("run", str(command_line.study_file), "--fresh", "--trials", "1000")
    wait_for((command_line.storage / ".old").exists, "the old study set aside")
    wait_for(lambda: begun(command_line) or watched.poll() is not None, "a trial begun")
    code, out, err = command_line.finish("down")
    _, told = watched.communicate(timeout=60)
    assert code == 0, err
    assert f"process {watched.pid}" in out
    assert watched.returncode == 143, told
    assert "SIGTERM received" not in told
    assert command_line.left_running() == []

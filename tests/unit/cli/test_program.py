import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli.program import COMMANDS, execute

HEAVY = ("ray", "torch", "sklearn", "onnxruntime", "optuna", "pandas")
STUDY = """
study: parabola
trainable: trainables.testing.quadratic
space: {x: {min: -10.0, max: 10.0}}
objective: {metric: loss}
budget: {trials: 5}
execution: inline
"""


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    (tmp_path / "objective.py").write_text(
        "def parabola(trial):\n    return (trial.params['x'] - 3) ** 2\n\n\n"
        "def broken(trial):\n    raise KeyError('no such column')\n"
    )
    path = tmp_path / "study.yaml"
    path.write_text(STUDY.replace("trainables.testing.quadratic", f"{tmp_path}/objective.py:parabola"))
    return path


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def finished(study_file: Path, storage: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    assert execute(["run", str(study_file), "--storage", str(storage), "--quiet"]) == 0
    capsys.readouterr()
    return storage


def error_of(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Returns the exit code and the one line on stderr; stdout has to be empty."""
    code = execute(words)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert told.err.startswith("error: ")
    return code, told.err


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_every_command_says_what_it_takes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(words) == 0
    assert "Usage: orchestrator" in capsys.readouterr().out


def test_a_wrong_flag_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = error_of(capsys, "run", "x.yaml", "--trails", "3")
    assert code == 2
    assert "--trials" in line


def test_a_mistyped_command_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, line = error_of(capsys, "bset")
    assert code == 2
    assert "'best'" in line


def test_an_unknown_study_is_told_the_nearest(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["best"], ["status"], ["resume"], ["stop"]):
        code, line = error_of(capsys, *command, "parabla", "--storage", str(finished))
        assert code == 2
        assert "'parabola'" in line


def test_an_unknown_trial_is_told_which_there_are(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = error_of(capsys, "show", "parabola", "77", "--storage", str(finished))
    assert code == 2
    assert "0 to 4" in line


def test_a_study_file_with_an_unknown_key_is_refused(study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study_file.write_text(STUDY.replace("objective:", "objectiv:"))
    code, line = error_of(capsys, "check", str(study_file))
    assert code == 2
    assert "'objective'" in line


def test_an_unknown_endpoint_is_an_input_error(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["serve", "digits"], ["predict", "digits", "rows.json"]):
        code, line = error_of(capsys, *command, "--storage", str(finished))
        assert code == 2
        assert "no endpoint 'digits'" in line


def test_an_unexpected_error_is_one_line_and_its_traceback_is_for_debug(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(storage: Path) -> list[str]:
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr("orchestrator.cli.looking.studies_on", break_down)
    code, line = error_of(capsys, "ls")
    assert code == 1
    assert "ZeroDivisionError: a fault of ours" in line
    assert execute(["--debug", "ls"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_data_is_printed_as_json(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = ["--storage", str(finished), "--json"]
    for words, key in [
        (["ls"], None),
        (["status"], "studies"),
        (["status", "parabola"], "phase"),
        (["status", "--graph"], "nodes"),
        (["best", "parabola"], "params"),
        (["show", "parabola", "0"], "reports"),
        (["stop", "parabola"], "stopped"),
        (["down"], "ended"),
    ]:
        assert execute([*words, *storage]) == 0
        data = json.loads(capsys.readouterr().out)
        assert key is None or key in data


def test_a_run_leaves_its_study_file_and_its_summary(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "study: parabola" in (finished / "parabola" / "study.yaml").read_text()
    summary = json.loads((finished / "parabola" / "summary.json").read_text())
    assert summary["trials"] == 5
    assert summary["test_accuracy"] is None
    assert summary["failed_requests"] == 0


def test_an_ended_study_is_shown_again_and_begun_anew_only_when_asked(
    study_file: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", str(study_file), "--storage", str(finished), "--quiet", "--json"]
    first = json.loads((finished / "parabola" / "summary.json").read_text())
    assert execute(run) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == first
    assert "--fresh" in told.err
    assert execute([*run, "--again", "--seed", "5"]) == 0
    assert json.loads(capsys.readouterr().out)["best_value"] != first["best_value"]
    assert len(list((finished / ".old").iterdir())) == 1


def test_another_space_under_the_same_name_is_refused(
    study_file: Path, finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_file.write_text(study_file.read_text().replace("10.0", "20.0"))
    kept = (finished / "parabola" / "study.yaml").read_text()
    code, line = error_of(capsys, "run", str(study_file), "--storage", str(finished), "--quiet")
    assert code == 2
    assert "another space" in line
    assert (finished / "parabola" / "study.yaml").read_text() == kept


def test_user_code_that_fails_is_shown_at_its_line(
    study_file: Path, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study_file.write_text(study_file.read_text().replace(":parabola", ":broken"))
    assert execute(["run", str(study_file), "--storage", str(storage), "--quiet"]) == 1
    told = capsys.readouterr().err
    assert 'objective.py", line 6, in broken' in told
    assert "with x=" in told
    assert "--fresh" in told


def test_debug_runs_one_trial_and_keeps_nothing(
    study_file: Path, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute(["run", str(study_file), "--storage", str(storage), "--debug"]) == 0
    assert "loss" in capsys.readouterr().out
    assert not storage.exists()


def test_check_names_the_metric_that_is_missing(study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study_file.write_text(
        study_file.read_text().replace("metric: loss", "metric: los").replace(":parabola", ":reporting")
    )
    (study_file.parent / "objective.py").write_text("def reporting(trial):\n    return {'loss': 1.0}\n")
    assert execute(["check", str(study_file)]) == 1
    assert "Did you mean 'loss'?" in capsys.readouterr().err


def test_check_writes_nothing(study_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(study_file.parent.rglob("*.yaml"))
    assert execute(["check", str(study_file), "--json"]) == 0
    assert "loss" in json.loads(capsys.readouterr().out)["metrics"]
    assert sorted(study_file.parent.rglob("*.yaml")) == before
    assert not (study_file.parent / "runs").exists()


@pytest.mark.parametrize("words", [["--help"], ["ls"], ["status", "parabola"], ["best", "parabola"]])
def test_a_look_loads_nothing_heavy(words: list[str], finished: Path) -> None:
    script = (
        "import sys; from orchestrator.cli.program import execute; code = execute(sys.argv[1:]); "
        f"found = [name for name in {HEAVY!r} if name in sys.modules]; sys.exit(str(found) if found else code)"
    )
    given = words if words == ["--help"] else [*words, "--storage", str(finished)]
    subprocess.run([sys.executable, "-c", script, *given], check=True, capture_output=True, timeout=60)

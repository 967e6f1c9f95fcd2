"""`extend` on a study that has ended, and what its older file is told afterwards."""

import json
from pathlib import Path

import pytest
import yaml

from orchestrator.cli.program import execute
from orchestrator.domain.space import Space
from orchestrator.study import read_study

STUDY = {
    "study": "bowl",
    "space": {"x": {"min": -2, "max": 2}},
    "objective": {"metric": "loss"},
    "search": "grid",
    "budget": {"trials": 20},
    "execution": "inline",
}
WIDER = {"x": {"min": -3, "max": 4}, "kind": {"values": ["flat", "deep"], "default": "flat"}}


class Shell:
    """A folder with a study file in which commands are given."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        (folder / "bowl.py").write_text("def bowl(trial):\n    return trial.params['x'] ** 2\n")
        self.write("study.yaml", STUDY | {"trainable": f"{folder}/bowl.py:bowl"})

    def write(self, name: str, given: object) -> str:
        (self.folder / name).write_text(yaml.safe_dump(given))
        return str(self.folder / name)

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        assert execute([*words, "--storage", str(self.folder / "runs")]) == code
        told = self._capsys.readouterr()
        return told.out, told.err

    @property
    def file(self) -> str:
        return str(self.folder / "study.yaml")

    def status(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self("status", "bowl", "--json")[0])
        return found

    def xs(self) -> list[object]:
        return [trial.params["x"] for trial in read_study(self.folder / "runs", "bowl").state.trials]


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shell:
    shell = Shell(tmp_path, capsys)
    shell("run", shell.file, "--quiet")
    return shell


def test_a_wider_space_wakes_an_exhausted_grid_and_repeats_nothing(shell: Shell) -> None:
    said, _ = shell("extend", "bowl", "--space", shell.write("wider.yaml", WIDER | {"kind": {"value": "flat"}}))
    assert "has a wider space from trial 5 on; go on with: " in said
    shell("resume", "bowl", "--quiet")
    assert shell.xs() == [-2, -1, 0, 1, 2, -3, 3, 4]


@pytest.mark.parametrize("form", ["the file, edited", "the section", "the parameters"])
def test_a_space_comes_as_a_study_file_its_section_or_its_parameters(shell: Shell, form: str) -> None:
    whole = {"the file, edited": STUDY | {"space": WIDER}, "the section": {"space": WIDER}, "the parameters": WIDER}
    shell("extend", "bowl", "--space", shell.write("wider.yaml", whole[form]))
    assert read_study(shell.folder / "runs", "bowl").specification.space == Space.from_dict(WIDER)


def test_a_space_comes_as_text_too(shell: Shell) -> None:
    shell("extend", "bowl", "--space", "{x: {min: -3, max: 2}}")
    assert read_study(shell.folder / "runs", "bowl").specification.space == Space.from_dict(
        {"x": {"min": -3, "max": 2}}
    )
    _, told = shell("extend", "bowl", "--space", "{x: {min: -3", code=2)
    assert "the space is not YAML" in told
    _, told = shell("extend", "bowl", "--space", "{x: 3}", code=2)
    assert "the space: parameter 'x' is {min:, max:}" in told


def test_the_older_file_goes_on_with_all_that_was_given_and_says_so(shell: Shell) -> None:
    shell("extend", "bowl", "--space", shell.write("wider.yaml", WIDER), "--trials", "30")
    _, told = shell("run", shell.file, "--quiet")
    assert "study 'bowl' was extended: it may spend 30 trials, not 20 trials; its space is the wider one" in told
    assert len(shell.xs()) == 16
    assert shell.status()["budget"] == {"trials": 30, "seconds": None}
    _, told = shell("run", shell.file, "--quiet")
    assert "this study has ended before" in told


def test_an_edited_file_is_refused_with_the_command_that_widens(shell: Shell) -> None:
    edited = yaml.safe_load(Path(shell.file).read_text()) | {"space": WIDER}
    path = shell.write("edited.yaml", edited)
    _, told = shell("run", path, "--quiet", code=2)
    assert "with another space; widen it with `orchestrator extend bowl --space FILE`" in told
    shell("extend", "bowl", "--space", path)
    _, told = shell("run", path, "--quiet")
    assert told == ""
    assert len(shell.xs()) == 16


def test_what_gives_the_study_nothing_to_do_says_what_would(shell: Shell) -> None:
    said, _ = shell("extend", "bowl", "--trials", "30")
    assert "that alone gives it nothing to do (all of its grid was tried): extend it by --space too" in said
    given = json.loads(shell("extend", "bowl", "--trials", "40", "--json")[0])
    assert (given["goes_on"], given["budget"]["trials"], given["first_trial_of_space"]) == (False, 40, 0)


def test_a_run_that_asks_for_more_goes_on_with_a_study_that_has_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = Shell(tmp_path, capsys)
    for trials in ("2", "4", "3"):
        shell("run", shell.file, "--quiet", "--trials", trials)
    assert shell.xs() == [-2, -1, 0, 1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "extend takes --trials, --time"),
        (["--trials", "3"], "may spend 20 trials already, and 3 trials is not more"),
        (["--time", "soon"], "--time: given 'soon'"),
        (["--space", "nowhere.yaml"], "nowhere.yaml cannot be read: No such file or directory"),
        (["--space", {"x": {"min": -1, "max": 2}}], "'x' went from -2 to 2 and now goes from -1 to 2"),
        (["--space", {"x": [1, 2]}], "parameter 'x' is {min:, max:}"),
        (["--space", STUDY | {"study": "other"}], "is the file of study 'other', not of 'bowl'"),
        (["--space", STUDY], "study 'bowl' has that space already"),
        (["--space", ["x"]], "a space maps names to parameters"),
        (
            ["--space", {**STUDY["space"], "y": {"min": 0.0, "max": 1.0, "default": 0.5}}],
            "grid cannot go through the continuous parameter 'y'",
        ),
    ],
)
def test_what_is_no_extension_is_refused_and_changes_nothing(shell: Shell, words: list[object], told: str) -> None:
    given = [word if isinstance(word, str) else shell.write("given.yaml", word) for word in words]
    before = shell.status()
    _, said = shell("extend", "bowl", *given, code=2)
    assert told in said
    assert shell.status() | {"epoch": 0} == before | {"epoch": 0}, "but for who wrote the journal last"

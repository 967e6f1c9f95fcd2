"""What the documents say is so: the schema agrees with the program, examples and README run, links lead somewhere."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.space import KEYS as SPACE_KEYS
from orchestrator.domain.specification import (
    Budget,
    DataSpecification,
    FailurePolicy,
    Resources,
    SchedulerSpecification,
    StudySpecification,
)
from orchestrator.domain.trials import TrialState

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = json.loads((ROOT / "docs/study.schema.json").read_text())
PAGE = (ROOT / "docs/study-file.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
STUDY_FILES = sorted((ROOT / "examples").glob("*/*.yaml"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

LEAST: Mapping[str, Any] = {"study": "s", "space": {"x": {"min": 0, "max": 1}}, "objective": {"metric": "loss"}}

SECTIONS = {
    "data": {f.name for f in fields(DataSpecification)},
    "objective": {"metric", "goal"},
    "search": {"engine", "points"},
    "scheduler": {f.name for f in fields(SchedulerSpecification)},
    "budget": {"trials", "time"},
    "resources": {f.name for f in fields(Resources)},
    "failures": {f.name for f in fields(FailurePolicy)},
    "serve": {
        "name",
        "share",
        "host",
        "port",
        "grpc_port",
        "ingress",
        "tls",
        "replicas",
        "cpu",
        "gpu",
        "promote",
        "rollout",
        "scale",
        "priority",
    },
    "serve.rollout": {"kind", "steps", "each", "alpha", "errors", "slower", "disagreement"},
    "serve.scale": {"ongoing", "latency", "down"},
    "tuning": {"floor"},
}

GOOD: Mapping[str, Any] = {
    "least": {},
    "numbers as text": {"space": {"lr": {"min": "1e-4", "max": "1e-1", "log": True}}},
    "a choice, a constant, conditions": {
        "space": {
            "a": {"values": [1, "two", None, True]},
            "b": {"value": 3},
            "c": {"min": 0, "max": 4, "step": 2, "when": {"a": ["two", None], "b": 3}},
        }
    },
    "sections in short": {"data": "sklearn:iris", "search": "random", "scheduler": "asha", "serve": True},
    "a grid": {"search": {"engine": "grid", "points": 3}},
    "sections left empty": {"data": None, "search": None, "scheduler": None, "budget": None, "failures": None},
    "times": {"budget": {"time": "1.5h", "trials": 3}, "timeout": 90},
    "a whole endpoint": {
        "serve": {
            "name": "e",
            "port": 80,
            "grpc_port": 81,
            "ingress": "serve",
            "tls": {"certificate": "/c.pem", "key": "/k.pem"},
            "replicas": {"min": 1, "max": 3},
            "cpu": 0.5,
            "promote": {"margin": 0.1},
            "scale": {"ongoing": 2, "latency": "50ms", "down": 5},
            "priority": "tuning",
        },
        "tuning": {"floor": 0},
    },
    "an endpoint in another one's replicas": {
        "serve": {"name": "e", "share": "f", "promote": {"margin": 0.1}, "rollout": "canary"}
    },
    "nobody's replicas are shared": {"serve": {"share": None, "port": 80}},
    "no endpoint": {"serve": False},
    "a rollout in short": {"serve": {"rollout": "canary"}},
    "a rollout by requests": {"serve": {"rollout": {"kind": "canary", "steps": [0, 0.05, 1.0], "each": 500}}},
    "a rollout by time": {"serve": {"rollout": {"kind": "shadow", "each": "60 s", "disagreement": 0.2}}},
    "resources": {"resources": {"cpu": 0.5, "gpu": 0.25, "concurrent": 8}, "execution": "tune", "seed": 7},
    "failures": {"failures": {"crashes": 0, "errors": 1, "alike": 1}},
}

BAD: Mapping[str, Any] = {
    "an unknown key": {"budgets": {}},
    "an unknown key in a section": {"scheduler": {"kind": "asha", "mx": 27}},
    "an unknown key of a parameter": {"space": {"x": {"min": 0, "max": 1, "scale": "log"}}},
    "a range without an end": {"space": {"x": {"min": 0}}},
    "a range and a choice at once": {"space": {"x": {"min": 0, "max": 1, "values": [1]}}},
    "a choice of nothing": {"space": {"x": {"values": []}}},
    "a name that cannot be a directory": {"study": "a/b"},
    "no metric": {"objective": {"goal": "minimize"}},
    "a goal that is none": {"objective": {"metric": "loss", "goal": "smaller"}},
    "an engine that is none": {"search": {"engine": "magic"}},
    "a grid of no points": {"search": {"engine": "grid", "points": 0}},
    "no trials": {"budget": {"trials": 0}},
    "no time": {"budget": {"time": "soon"}},
    "an execution that is none": {"execution": "remote"},
    "a share of everything": {"data": {"source": "sklearn:iris", "test": 1.0}},
    "data without a source": {"data": {"target": "y"}},
    "an eta that halves nothing": {"scheduler": {"kind": "asha", "eta": 1}},
    "no CPU": {"resources": {"cpu": 0}},
    "a port of shared replicas": {"serve": {"share": "f", "port": 80}},
    "replicas of its own and of another one": {"serve": {"share": "f", "replicas": 2}},
    "replicas of no endpoint": {"serve": {"share": ["f"]}},
    "a port that is none": {"serve": {"port": 70000}},
    "a gRPC port that is none": {"serve": {"grpc_port": 0}},
    "TLS without a key": {"serve": {"tls": {"certificate": "/c.pem"}}},
    "an ingress that is none": {"serve": {"ingress": "nginx"}},
    "a rollout that is none": {"serve": {"rollout": "sudden"}},
    "a canary of more than everything": {"serve": {"rollout": {"steps": [0.05, 1.5]}}},
    "a canary below nothing": {"serve": {"rollout": {"steps": [-0.05]}}},
    "a step of no requests": {"serve": {"rollout": {"each": 0}}},
    "no chance of an error": {"serve": {"rollout": {"alpha": 0}}},
    "a negative margin": {"serve": {"promote": {"margin": -1}}},
    "a negative seed": {"seed": -1},
}


def schema_takes(study: Mapping[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(SCHEMA).is_valid(study)


def program_takes(study: Mapping[str, Any]) -> bool:
    try:
        StudySpecification.from_dict(study)
    except InvalidInput:
        return False
    return True


# --- the study file ------------------------------------------------------------------------------------------------


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("case", GOOD)
def test_schema_and_program_take_the_same(case: str) -> None:
    study = {**LEAST, **GOOD[case]}
    assert program_takes(study)
    assert schema_takes(study)


@pytest.mark.parametrize("case", BAD)
def test_schema_and_program_refuse_the_same(case: str) -> None:
    study = {**LEAST, **BAD[case]}
    assert not program_takes(study)
    assert not schema_takes(study)


@pytest.mark.parametrize("key", ["study", "space", "objective"])
def test_schema_and_program_need_the_same_keys(key: str) -> None:
    study = {k: v for k, v in LEAST.items() if k != key}
    assert not program_takes(study)
    assert not schema_takes(study)


@pytest.mark.parametrize("path", STUDY_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_schema_takes_every_study_file_of_ours(path: Path) -> None:
    given = yaml.safe_load(path.read_text())
    jsonschema.validate(given, SCHEMA)
    jsonschema.validate(StudySpecification.from_dict(given).to_dict(), SCHEMA)


def test_each_key_is_in_the_schema() -> None:
    assert set(SCHEMA["properties"]) == set(StudySpecification.KEYS)
    for name, keys in SECTIONS.items():
        named = SCHEMA["properties"]
        for part in name.split("."):
            section = named[part]
            parts = section.get("anyOf", [section])
            named = next(one["properties"] for one in parts if "properties" in one)
        assert set(named) == keys, name
    parameter = set().union(*(kind["properties"] for kind in SCHEMA["$defs"]["parameter"]["anyOf"]))
    assert parameter == SPACE_KEYS


def test_each_key_is_on_the_page() -> None:
    keys = set(StudySpecification.KEYS) | SPACE_KEYS
    keys |= {f"{section}.{key}" for section, names in SECTIONS.items() for key in names}
    missing = sorted(key for key in keys if f"`{key}`" not in PAGE)
    assert not missing


@pytest.mark.parametrize(
    ("section", "made"),
    [
        ("scheduler", SchedulerSpecification.from_dict({"kind": "asha"})),
        ("resources", Resources()),
        ("failures", FailurePolicy()),
        ("budget", Budget()),
    ],
)
def test_the_schema_says_the_defaults_that_the_program_has(section: str, made: object) -> None:
    whole = SCHEMA["properties"][section]
    named = next(part["properties"] for part in whole.get("anyOf", [whole]) if "properties" in part)
    said = {key: entry["default"] for key, entry in named.items()}
    names = {"time": "seconds"}
    assert said == {key: getattr(made, names.get(key, key)) for key in said}


def test_the_examples_on_the_page_can_be_read() -> None:
    spaces = [yaml.safe_load(block) for block in blocks(PAGE, "yaml") if block.startswith("space:")]
    assert spaces
    assert all(program_takes({**LEAST, **space}) for space in spaces)


# --- examples and README -------------------------------------------------------------------------------------------


def blocks(text: str, language: str) -> list[str]:
    """Returns the fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def run_python(arguments: list[str], directory: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def fewer_trials(code: str) -> str:
    return re.sub(r"trials=\d+", "trials=6", code)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_run(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_text(fewer_trials(path.read_text()))
    assert "best" in run_python([str(copy)], tmp_path)


@pytest.mark.parametrize("number", range(len(blocks((ROOT / "README.md").read_text(), "python"))))
def test_the_python_in_the_readme_runs(number: int, tmp_path: Path) -> None:
    code = fewer_trials(blocks((ROOT / "README.md").read_text(), "python")[number])
    assert "address=" not in code, "what needs a cluster is not run here"
    run_python(["-c", code], tmp_path)


def test_the_readme_lists_every_command() -> None:
    from orchestrator.cli.program import COMMANDS

    listed = re.findall(r"^\| `orchestrator (\w+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert sorted(listed) == sorted(COMMANDS)


def test_the_study_files_in_the_readme_can_be_read() -> None:
    found = [yaml.safe_load(block) for block in blocks((ROOT / "README.md").read_text(), "yaml")]
    assert found
    for study in found:
        assert program_takes(study)
        assert schema_takes(study)


def test_the_study_file_of_an_estimator_finds_a_good_one(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from orchestrator.api.driving import Silence, drive
from orchestrator.api.study_file import read_study_file
from orchestrator.tuning.code import Code
changes = {{"execution": "inline", "storage": {str(tmp_path)!r}, "budget": {{"trials": 4}}}}
study = read_study_file(Path({str(ROOT / "examples/sklearn_estimator/study.yaml")!r}), changes)
print(drive(study, Code.named(study.trainable), Silence()).status["best"]["value"])
"""
    assert float(run_python(["-c", code], tmp_path)) < 0.3  # log loss; the class shares alone have 0.66


# --- all documents -------------------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """Returns the anchors that GitHub makes of a document's headings."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(path: Path) -> Iterator[str]:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    yield from (link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not link.startswith(("http:", "https:")))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for link in links(path):
        place, _, anchor = link.partition("#")
        target = (path.parent / place).resolve() if place else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_every_state_of_a_trial_is_explained() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    assert all(f"| {state.name} |" in page for state in TrialState)


def test_every_module_that_the_architecture_names_exists() -> None:
    page = (ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`((?:orchestrator|deploy|trainables)(?:[./][a-z_]+)+(?:\.py)?)`", page)
    assert named
    for name in named:
        path = name if "/" in name else name.replace(".", "/")
        assert (ROOT / path).exists() or (ROOT / f"{path}.py").exists(), name


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


# put together, so that this file does not hold them
FORBIDDEN = ["DESIGN" + ".md", "STYLE" + ".md", "/wo" + "rk/", "../sh" + "ared", "pypi." + "internal"]


def test_the_project_speaks_of_itself_alone() -> None:
    found = []
    for path in tracked_files():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {word}" for word in FORBIDDEN if word in text]
    assert not found

"""What is loaded, and what is not: seconds at every start, and memory in every replica.

Each case runs in a process of its own and looks at `sys.modules` afterwards.
"""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

HEAVY = ("ray", "torch", "sklearn", "onnxscript", "skl2onnx")
FINISHED_STUDY = """
from orchestrator.api.study import Study
from orchestrator.domain.space import Float
study = Study("bowl", space={"x": Float(-1, 1)}, minimize="loss", search="random", storage=STORAGE, seed=1)
for _ in range(3):
    trial = study.ask()
    study.tell(trial, trial.params["x"] ** 2)
study.close()
"""
INLINE_RUN = """
from orchestrator.api.study import Study
from orchestrator.domain.space import Float
seen = []
def objective(trial):
    seen.append(trial.number)
    return trial.params["x"] ** 2
space = {"x": Float(-1, 1)}
study = Study("bowl", objective, space, minimize="loss", search="random", storage=STORAGE, execution="inline")
study.run(trials=3)
assert seen == [0, 1, 2], "the very object is called, not a copy"
"""

CASES = {
    "the façade of the whole": ("import orchestrator", (*HEAVY, "optuna", "numpy", "pandas")),
    "the words": ("import orchestrator.domain.specification", (*HEAVY, "optuna", "numpy")),
    "the room of the entrances": ("import orchestrator.api", (*HEAVY, "optuna", "numpy")),
    "the study's class": ("from orchestrator import Study", (*HEAVY, "optuna")),
    "the study": ("import orchestrator.study", (*HEAVY, "optuna", "numpy")),
    "serving's façade": ("import deploy", (*HEAVY, "onnxruntime", "onnx")),
    "what a replica runs": (
        "import deploy.answering.app, deploy.answering.served, deploy.bundle",
        (*HEAVY, "optuna", "onnx", "pandas"),
    ),
    "the trainables' façade": ("import trainables", (*HEAVY, "numpy")),
    "ask and tell with random search": (FINISHED_STUDY, (*HEAVY, "optuna", "pandas")),
    "ask and tell with TPE": (FINISHED_STUDY.replace('"random"', '"tpe"'), ("ray", "sklearn", "onnxscript")),
    "an inline run of a function": (INLINE_RUN, (*HEAVY, "optuna", "pandas", "onnxruntime")),
    "reading a finished study": (
        "from pathlib import Path\n"
        "from orchestrator.study import read_study\n"
        "assert len(read_study(Path(STORAGE), 'bowl').state.trials) == 3",
        (*HEAVY, "optuna", "pandas", "onnxruntime"),
    ),
}


def run(code: str, storage: Path) -> set[str]:
    """Returns the top-level modules that are loaded after the code ran in a fresh process."""
    whole = (
        f"STORAGE = {str(storage)!r}\n{code}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", whole], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("case", CASES)
def test_only_what_is_needed_is_loaded(case: str, tmp_path: Path) -> None:
    code, unwanted = CASES[case]
    if case == "reading a finished study":
        run(FINISHED_STUDY, tmp_path)
    loaded = run(code, tmp_path)
    assert not loaded & set(unwanted), f"{case} loads {sorted(loaded & set(unwanted))}"

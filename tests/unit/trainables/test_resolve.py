import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from orchestrator.domain.errors import InvalidTrainable
from trainables import testing
from trainables.resolve import resolve, resolve_object

ROOT = Path(__file__).parents[3]
METHODS = (
    "    defaults = {}\n"
    "    def build(self, params, data, context): ...\n"
    "    def step(self): ...\n"
    "    def save(self, directory): ...\n"
    "    def load(self, directory): ...\n"
    "    def predict(self, rows): ...\n"
    "    def export(self, directory, lineage): ...\n"
)


def written(tmp_path: Path, body: str, name: str = "mine.py") -> Path:
    file = tmp_path / name
    file.write_text(body)
    return file


@pytest.mark.parametrize("reference", ["trainables.testing.Quadratic", "trainables.testing:Quadratic"])
def test_a_class_is_named_by_path(reference: str) -> None:
    found = resolve(reference)
    assert found.kind == "trainable"
    assert found.target is testing.Quadratic
    assert found.code_sha256 == sha256(Path(testing.__file__).read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("reference", "name"),
    [("trainables.torch.mlp", "MLP"), ("trainables.sklearn.random_forest", "RandomForest")],
)
def test_a_module_with_one_trainable_names_it(reference: str, name: str) -> None:
    found = resolve(reference)
    assert found.target.__qualname__ == name
    assert found.code_sha256 == sha256((ROOT / (reference.replace(".", "/") + ".py")).read_bytes()).hexdigest()


def test_a_file_is_imported_with_what_lies_beside_it(tmp_path: Path) -> None:
    written(tmp_path, "ANSWER = 42\n", "lies_beside_mine.py")
    file = written(tmp_path, "import lies_beside_mine\ndef objective(trial):\n    return lies_beside_mine.ANSWER\n")
    found = resolve(f"{file}:objective")
    assert found.kind == "function"
    assert found.target(None) == 42
    assert found.code_sha256 == sha256(file.read_bytes()).hexdigest()


def test_an_edited_file_is_another_code(tmp_path: Path) -> None:
    first = resolve(f"{written(tmp_path, 'def f(trial): return 1')}:f")
    second = resolve(f"{written(tmp_path, 'def f(trial): return 2')}:f")
    assert first.code_sha256 != second.code_sha256
    assert (first.target(None), second.target(None)) == (1, 2)


def test_callables_with_one_argument_are_objectives() -> None:
    class Callable:
        def __call__(self, trial: object) -> float:
            return 0.0

    assert resolve_object(lambda trial: 0.0).kind == "function"
    assert resolve_object(Callable()).kind == "function"
    assert resolve_object(lambda trial, more=1: 0.0).kind == "function"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("trainables.testing.Quadratc", "has no 'Quadratc'.* Did you mean 'Quadratic'"),
        ("trainables.testing", "several trainables; name one of Trivial, Quadratic"),
        ("trainables.metrics", "no trainable class; name one of .*scores"),
        ("trainables.torch.mpl", "has no 'mpl'.* Did you mean 'mlp'"),
        ("no_such_package.module", "no module 'no_such_package'"),
        ("no_such_module:f", "path/to/file.py:name"),
        ("", "names nothing"),
        (":f", "names nothing"),
        ("trainables.testing:", "names nothing"),
        ("no/such/file.py:f", "there is no file"),
        ("file.py", "say which name in it"),
        ("trainables.metrics:SMALLEST_PROBABILITY", "is float"),
        ("trainables.metrics:scores", "called with one argument, `trial`"),
        ("trainables.split:Split", "lacks defaults, build, step"),
    ],
)
def test_a_wrong_reference_says_what_is_wrong(reference: str, message: str) -> None:
    with pytest.raises(InvalidTrainable, match=message):
        resolve(reference)


def test_the_nearest_file_is_named(tmp_path: Path) -> None:
    written(tmp_path, "", "objective.py")
    with pytest.raises(InvalidTrainable, match=r"Did you mean 'objective.py'"):
        resolve(f"{tmp_path}/objectiv.py:f")


def test_a_module_that_fails_keeps_its_traceback(tmp_path: Path) -> None:
    file = written(tmp_path, "import no_such_dependency\n")
    with pytest.raises(InvalidTrainable, match="No module named 'no_such_dependency'") as caught:
        resolve(f"{file}:f")
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_missing_method_is_named(tmp_path: Path) -> None:
    body = "class Mine:\n" + METHODS.replace("    def load(self, directory): ...\n", "")
    with pytest.raises(InvalidTrainable, match="lacks load;"):
        resolve(f"{written(tmp_path, body)}:Mine")


def test_a_method_with_other_arguments_is_named(tmp_path: Path) -> None:
    body = "class Mine:\n" + METHODS.replace("build(self, params, data, context)", "build(self, params)")
    with pytest.raises(InvalidTrainable, match=r"called as build\(params, data, context\)"):
        resolve(f"{written(tmp_path, body)}:Mine")


def test_the_light_modules_load_neither_torch_nor_scikit_learn() -> None:
    script = (
        "import sys, trainables, trainables.testing, trainables.resolve, trainables.data; trainables.Split;"
        "print([name for name in ('torch', 'sklearn', 'ray', 'onnxruntime', 'pandas') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=os.environ, capture_output=True, text=True)
    assert ran.stdout.strip() == "[]", ran.stderr

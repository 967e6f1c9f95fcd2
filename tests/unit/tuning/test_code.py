"""The user's code as it travels: by name with its hash, or by value."""

import functools
import importlib
import pickle
import subprocess
import sys
import textwrap

import pytest

from orchestrator.domain.errors import InvalidSpecification, InvalidTrainable
from orchestrator.domain.specification import StudySpecification
from orchestrator.tuning.code import Code, absolute, check_end, trial_defaults
from trainables.testing import Quadratic, Trivial

BOWL = """
from trainables.testing import Quadratic

class Bowl(Quadratic):
    "The user's own."
"""


@pytest.fixture
def user_file(tmp_path):
    path = tmp_path / "bowls.py"
    path.write_text(BOWL)
    return path


def elsewhere(code, tmp_path, script):
    """Runs a script in another process that gets the code as a worker does; returns what it prints."""
    (tmp_path / "code.pkl").write_bytes(pickle.dumps(code))
    whole = f"import pickle\ncode = pickle.load(open({str(tmp_path / 'code.pkl')!r}, 'rb'))\n" + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, cwd="/")
    return done.stdout.strip() or done.stderr


def test_code_with_a_name_goes_by_it():
    code = Code.of(Quadratic)
    assert code.reference == "trainables.testing:Quadratic"
    assert code.pickled is None
    assert code.resolve().target is Quadratic
    assert Code.named("trainables.testing.Quadratic").sha256 == code.sha256


def test_a_file_of_the_users_is_found_from_any_directory(user_file, tmp_path):
    code = Code.named(f"{user_file}:Bowl")
    assert elsewhere(code, tmp_path, "print(code.resolve().target.__name__)") == "Bowl"


def test_the_path_of_a_file_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute("bowls.py:Bowl") == f"{tmp_path}/bowls.py:Bowl"
    assert absolute("trainables.testing:Quadratic") == "trainables.testing:Quadratic"
    assert absolute("trainables.testing.Quadratic") == "trainables.testing.Quadratic"


def test_code_that_changed_on_its_way_is_refused_with_what_to_do(user_file, tmp_path):
    code = Code.named(f"{user_file}:Bowl")
    user_file.write_text(BOWL + "    x = 1\n")
    told = elsewhere(code, tmp_path, "code.resolve()")
    assert "InvalidTrainable: the code of " in told
    assert "differs from where the study was started" in told
    assert "bring the same files to every host" in told


def test_a_name_that_leads_nowhere_is_refused():
    with pytest.raises(InvalidTrainable, match="Quadratc"):
        Code.named("trainables.testing.Quadratc")


def test_an_object_without_a_name_is_itself_here_and_a_copy_elsewhere(tmp_path):
    offset = 2

    def objective(trial):
        return trial + offset

    code = Code.of(objective)
    assert code.resolve().target is objective
    assert elsewhere(code, tmp_path, "print(code.resolve().kind, code.resolve().target(40))") == "function 42"


def test_a_lambda_and_a_method_of_an_object_go_by_value(tmp_path, monkeypatch):
    (tmp_path / "lambdas.py").write_text("objective = lambda trial: trial\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("lambdas")
    assert Code.of(module.objective).resolve().target is module.objective
    assert Code.of(functools.partial(max, 1)).resolve().target(2) == 2
    assert elsewhere(Code.of(module.objective), tmp_path, "print(code.resolve().target(42))") == "42"


def test_a_class_within_a_class_goes_by_value():
    code = Code.of(Outer.Bowl)
    assert code.target is Outer.Bowl
    assert code.resolve().target is Outer.Bowl


class Outer:
    class Bowl(Trivial):
        "Has a name of two parts."


def test_a_class_of_a_function_travels_too(tmp_path):
    class Bowl(Trivial):
        defaults = {"x": 3.0}  # noqa: RUF012

    code = Code.of(Bowl)
    assert trial_defaults(code.resolve()) == {"x": 3.0}
    assert elsewhere(code, tmp_path, "print(code.resolve().target.defaults)") == "{'x': 3.0}"


def test_only_a_class_has_defaults():
    assert trial_defaults(Code.of(Quadratic).resolve()) == {"x": 0.0, "y": 0.0}
    assert trial_defaults(Code.of(lambda trial: 0.0).resolve()) is None


@pytest.mark.parametrize(("scheduler", "target"), [("none", Quadratic)])
def test_a_class_that_would_be_stepped_for_ever_is_refused(scheduler, target):
    with pytest.raises(InvalidSpecification, match="is trained step by step and has no end of its own"):
        check_end(study(scheduler), Code.of(target).resolve())


def test_what_has_an_end_is_not_refused():
    class Forest(Trivial):
        resource = "fit"

    check_end(study("none"), Code.of(Forest).resolve())
    check_end(study("none"), Code.of(lambda trial: 0.0).resolve())
    check_end(study("asha"), Code.of(Quadratic).resolve())
    check_end(study({"kind": "none", "max": 9}), Code.of(Quadratic).resolve())


def study(scheduler):
    given = {"study": "s", "space": {}, "objective": {"metric": "loss"}, "scheduler": scheduler}
    return StudySpecification.from_dict(given)

"""From an exception to a failure: the traceback at the user's line, and a signature."""

import pytest
from worker_orders import order

from orchestrator.tuning.failures import failure_of


def fail_deep(message):
    raise ValueError(message)


def objective(trial):
    fail_deep(f"trial {trial.number}")


def failure(make_worker, target, trial=0):
    worker, desk, _ = make_worker(target)
    desk.say(order(trial))
    worker.turn()
    worker.turn()
    return desk.progress[0].failure


def test_the_traceback_begins_at_the_users_code(make_worker):
    text = failure(make_worker, objective).traceback
    frames = [line for line in text.splitlines() if line.startswith("  File ")]
    assert "in objective" in frames[0]
    assert "in fail_deep" in frames[1]
    assert len(frames) == 2
    assert text.endswith("ValueError: trial 0\n")


def test_failures_alike_have_one_signature_whatever_their_message(make_worker):
    first, second = failure(make_worker, objective, 0), failure(make_worker, objective, 1)
    assert first.message == "ValueError: trial 0"
    assert second.message == "ValueError: trial 1"
    assert first.signature == second.signature
    assert first.signature.startswith("ValueError at test_failure_of.py:")


def test_failures_at_other_lines_or_of_other_types_have_other_signatures(make_worker):
    def elsewhere(trial):
        raise ValueError("trial 0")

    def otherwise(trial):
        raise KeyError("trial 0")

    assert len({failure(make_worker, target).signature for target in (objective, elsewhere, otherwise)}) == 3


def test_a_cause_behind_the_error_is_shown_too(make_worker):
    def chained(trial):
        try:
            fail_deep("the cause")
        except ValueError as error:
            raise RuntimeError("the effect") from error

    text = failure(make_worker, chained).traceback
    assert "the cause" in text
    assert "direct cause" in text


@pytest.mark.parametrize(("error", "cause"), [(MemoryError(), "memory"), (OSError("no"), "error")])
def test_the_cause_tells_memory_from_everything_else(error, cause):
    found = failure_of(error)
    assert found.cause == cause
    assert found.signature == f"{type(error).__name__} at ?", "it was never raised"

"""`run --debug`: one trial in the process at hand, where `breakpoint()` and a debugger work."""

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from orchestrator.api.driving import Outcome, Silence, drive
from orchestrator.cli.failing import failure_text
from orchestrator.cli.printing import block, number, parameters
from orchestrator.domain.specification import Budget, FailurePolicy, StudySpecification
from orchestrator.journal import AnyStorage
from orchestrator.study import read_study, trial_details
from orchestrator.tuning.code import Code


def debug_one_trial(specification: StudySpecification) -> int:
    """Returns 0 when the trial went well, else 1; the study itself is not touched."""
    click.echo(f"one trial of '{specification.study}' in this process; nothing is kept", err=True)
    code = Code.named(specification.trainable)
    with TemporaryDirectory(prefix="orchestrator-debug-") as place:
        alone = specification.with_changes(
            execution="inline", budget=Budget(trials=1), failures=FailurePolicy(0, 0, 1), serve=None, storage=place
        )
        outcome = drive(alone, code, Silence())
        if outcome.failure is not None:
            click.echo(failure_text(outcome.failure), err=True)
            return 1
        _show(outcome, Path(place))
    return 0


def _show(outcome: Outcome, storage: AnyStorage) -> None:
    details = trial_details(read_study(storage, outcome.status["study"]).state.trials[0])
    metrics = details["reports"][-1] if details["reports"] else {}
    rows = [("params", parameters(details["params"])), ("steps", str(details["last_step"]))]
    click.echo(block(rows + [(name, number(value)) for name, value in metrics.items() if name != "step"]))

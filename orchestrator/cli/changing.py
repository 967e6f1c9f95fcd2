"""`extend` gives a study more to spend or a wider space."""

from pathlib import Path
from typing import Any

import click

from orchestrator.api.extending import extend_study
from orchestrator.api.study_file import read_space_file
from orchestrator.cli.options import json_option, storage_option
from orchestrator.cli.pasting import pasted
from orchestrator.cli.printing import print_json
from orchestrator.cli.summary import REASONS
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.specification import parse_seconds
from orchestrator.journal import AnyStorage
from orchestrator.study import Layout, Phase, StudyState, read_study


@click.command()
@click.argument("study")
@click.option("--trials", type=click.IntRange(min=1), help="How many trials in all, more than it has.")
@click.option("--time", help='How long in all, such as "10m".')
@click.option(
    "--space",
    "file",
    type=click.Path(path_type=Path),
    help="A study file, or the parameters alone: a space that holds all of the one it has.",
)
@storage_option
@json_option
def extend(
    study: str, trials: int | None, time: str | None, file: Path | None, storage: AnyStorage, as_json: bool
) -> None:
    """Give STUDY more to spend, a wider space, or both. One that runs goes on at once, an ended one with `resume`."""
    if trials is None and time is None and file is None:
        raise InvalidInput("extend takes --trials, --time (how much in all) or --space: what STUDY is to have more of")
    Layout(storage, study).require()
    seconds = None if time is None else parse_seconds("--time", time)
    space = None if file is None else read_space_file(file, study)
    runs = extend_study(storage, study, trials=trials, seconds=seconds, space=space)
    state = read_study(storage, study).state
    again = pasted("resume", study, storage=storage)
    if as_json:
        goes_on = state.phase is not Phase.ENDED
        print_json({"study": study, "runs": runs, "resume": again, "goes_on": goes_on} | _terms(state))
    else:
        click.echo(_word(state, runs, again))


def _terms(state: StudyState) -> dict[str, Any]:
    """Returns what the study may spend now, and from which trial on its space is the one that it has."""
    budget = state.specification.budget
    return {
        "budget": {"trials": budget.trials, "seconds": budget.seconds},
        "first_trial_of_space": state.spaces[-1].first_trial,
    }


def _word(state: StudyState, runs: bool, again: str) -> str:
    name, held = state.specification.study, state.spaces[-1]
    may = f"study '{name}' may spend {state.specification.budget}"
    if held.first_trial or len(state.spaces) > 1:
        may += f", and has a wider space from trial {held.first_trial} on"
    if runs:
        return may
    if state.phase is Phase.ENDED:
        why, remedy = REASONS.get(state.reason, state.reason), _REMEDIES.get(state.reason, "more")
        return f"{may}; that alone gives it nothing to do ({why}): extend it by {remedy} too"
    return f"{may}; go on with: {again}"


_REMEDIES = {"finished": "--trials", "time": "--time", "exhausted": "--space"}

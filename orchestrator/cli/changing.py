"""`extend` gives a study more to spend or a wider space."""

import json
from pathlib import Path
from typing import Any

import click

from orchestrator.api.extending import extend_study
from orchestrator.api.study_file import read_space
from orchestrator.cli.options import is_given, json_option, storage_option, token_file_option
from orchestrator.cli.pasting import pasted
from orchestrator.cli.printing import print_json
from orchestrator.cli.summary import REASONS
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.sections import parse_seconds
from orchestrator.journal import AnyStorage
from orchestrator.process_graph.job_address import is_job_server
from orchestrator.study import Layout, Phase, StudyState, read_study


@click.command()
@click.argument("study")
@click.option("--trials", type=click.IntRange(min=1), help="How many trials in all, more than it has.")
@click.option("--time", help='How long in all, such as "10m".')
@click.option(
    "--space",
    "wider",
    metavar="FILE",
    help="A study file, or the parameters alone (also as {…}): a space that holds all of the one it has.",
)
@storage_option
@click.option("--address", help="Of the Ray cluster that it runs on, or of its job server; without it this machine's.")
@token_file_option
@json_option
@click.pass_context
def extend(
    ctx: click.Context,
    study: str,
    trials: int | None,
    time: str | None,
    wider: str | None,
    storage: AnyStorage,
    address: str | None,
    token_file: Path | None,
    as_json: bool,
) -> int:
    """Give STUDY more to spend, a wider space, or both. One that runs goes on at once, an ended one with `resume`."""
    if trials is None and time is None and wider is None:
        raise InvalidInput("extend takes --trials, --time (how much in all) or --space: what STUDY is to have more of")
    seconds = None if time is None else parse_seconds("--time", time)
    space = None if wider is None else read_space(wider, study)
    if address is not None and is_job_server(address):
        from orchestrator.cli.elsewhere import run_there

        words = ["extend", study]
        words += [] if trials is None else ["--trials", str(trials)]
        words += [] if seconds is None else ["--time", str(seconds)]
        words += [] if space is None else ["--space", json.dumps(space.to_dict())]
        given = storage if is_given(ctx, "storage") else None
        return run_there(address, token_file, study, words, storage=given, as_json=as_json)
    Layout(storage, study).require()
    runs = extend_study(storage, study, trials=trials, seconds=seconds, space=space, address=address)
    state = read_study(storage, study).state
    again = pasted("resume", study, storage=storage)
    if as_json:
        goes_on = state.phase is not Phase.ENDED
        print_json({"study": study, "runs": runs, "resume": again, "goes_on": goes_on} | _terms(state))
    else:
        click.echo(_word(state, runs, again))
    return 0


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

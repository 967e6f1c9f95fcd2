"""`ls`, `best` and `show`: what lies on a storage. They need its journals, not Ray."""

from typing import Any

import click

from orchestrator.cli.options import json_option, storage_option
from orchestrator.cli.pasting import pasted
from orchestrator.cli.printing import NOTHING, block, duration, number, parameters, print_json, table
from orchestrator.domain.errors import InvalidInput, OrchestratorError, UnknownStudy
from orchestrator.journal import AnyStorage
from orchestrator.study import read_study, status, studies_on, trial_details
from orchestrator.study.layout import Layout


@click.command()
@storage_option
@json_option
def ls(storage: AnyStorage, as_json: bool) -> None:
    """List the studies on a storage."""
    lines = [summary_line(storage, name) for name in studies_on(storage)]
    if as_json:
        print_json(lines)
    elif lines:
        click.echo(studies_table(lines))
    else:
        click.echo(f"no studies on {storage}; `{pasted('run', 'FILE', storage=storage)}` begins one")


def summary_line(storage: AnyStorage, name: str) -> dict[str, Any]:
    """Returns a study in a line's worth of data; a damaged one says so instead of hiding the others."""
    try:
        now = status(read_study(storage, name).state)
    except OrchestratorError as error:
        return {"study": name, "error": str(error)}
    best = now["best"]
    return {
        "study": name,
        "phase": now["phase"],
        "reason": now["reason"],
        "trials": now["trials"],
        "metric": now["metric"],
        "best_value": best["value"] if best else None,
        "promotions": now["promotions"],
        "seconds": now["seconds"],
    }


def studies_table(lines: list[dict[str, Any]]) -> str:
    """Returns the studies as a table."""
    rows = [
        [line["study"], "damaged", NOTHING, NOTHING, NOTHING, line["error"]]
        if "error" in line
        else [
            line["study"],
            line["phase"],
            str(line["trials"]),
            f"{line['metric']} {number(line['best_value'])}",
            str(line["promotions"]),
            duration(line["seconds"]),
        ]
        for line in lines
    ]
    return table(["STUDY", "PHASE", "TRIALS", "BEST", "PROMOTIONS", "TIME"], rows)


@click.command()
@click.argument("study")
@storage_option
@json_option
def best(study: str, storage: AnyStorage, as_json: bool) -> None:
    """Show the best configuration of STUDY."""
    now = status(read_study(storage, study).state)
    found = now["best"]
    if found is None:
        raise UnknownStudy(
            f"study '{study}' has no trial with a value yet ({now['trials']} begun); "
            f"`{pasted('resume', study, storage=storage)}` goes on with it"
        )
    data = found | {"metric": now["metric"], "goal": now["goal"]}
    if as_json:
        print_json(data)
        return
    default = now["default"]
    rows = [
        (now["metric"], f"{number(found['value'])} after step {found['step']} of trial {found['trial']}"),
        ("default", number(default["value"] if default else None)),
        ("baseline", number(now["baseline"])),
    ]
    click.echo(block(rows + [(name, number(value)) for name, value in found["params"].items()]))


@click.command()
@click.argument("study")
@click.argument("trial", type=int)
@storage_option
@json_option
def show(study: str, trial: int, storage: AnyStorage, as_json: bool) -> None:
    """Show everything about one TRIAL of STUDY."""
    state = read_study(storage, study).state
    if not 0 <= trial < len(state.trials):
        raise InvalidInput(
            f"study '{study}' has no trial {trial}; it has {len(state.trials)}"
            + (f": 0 to {len(state.trials) - 1}" if state.trials else "")
        )
    details = trial_details(state.trials[trial])
    if as_json:
        print_json(details)
        return
    click.echo(block(_facts(details)))
    if details["reports"]:
        click.echo("\n" + _reports(details["reports"]))
    for failure in details["failures"]:
        click.echo(f"\nfailed ({failure['cause']}): {failure['message']}\n{failure['traceback']}".rstrip())
    if details["checkpoint"]:
        click.echo(f"\ncheckpoint  {details['checkpoint']['uri']}")
    click.echo(f"storage     {Layout(storage, study).root}")


def _facts(details: dict[str, Any]) -> list[tuple[str, str]]:
    again = f", attempt {details['attempt'] + 1}" if details["attempt"] else ""
    return [
        ("trial", f"{details['trial']} ({details['origin']})"),
        ("state", f"{details['state']} at step {details['last_step']}{again}"),
        ("value", f"{number(details['value'])} after step {details['step']}"),
        ("params", parameters(details["params"])),
    ]


def _reports(reports: list[dict[str, Any]]) -> str:
    names = list(dict.fromkeys(name for report in reports for name in report))
    return table(names, [[number(report.get(name)) for name in names] for report in reports])

"""`audit`: who did what at an endpoint, and who was refused. It needs the storage, not Ray."""

import click

from deploy.access.audit import Entry, trail
from deploy.rollout.history import parse_time
from orchestrator.cli.options import json_option, storage_option
from orchestrator.cli.printing import NOTHING, print_json, table
from orchestrator.cli.serving import require_endpoint
from orchestrator.journal import AnyStorage


@click.command()
@click.argument("name")
@click.option("--since", help="A time, such as 2026-01-31T12:00 (UTC): what happened from then on.")
@storage_option
@json_option
def audit(name: str, since: str | None, storage: AnyStorage, as_json: bool) -> None:
    """List who did what at the endpoint NAME: token changes, decisions, and refused authentications."""
    require_endpoint(storage, name)
    start = None if since is None else parse_time(since)
    entries = [entry for entry in trail(storage, name) if start is None or parse_time(entry.at) >= start]
    if as_json:
        print_json([entry.to_dict() for entry in entries])
    elif entries:
        click.echo(table(["TIME", "WHO", "FROM", "WHAT", "OUTCOME", "DETAIL"], [_row(entry) for entry in entries]))
    else:
        click.echo(f"nothing happened at endpoint '{name}'")


def _row(entry: Entry) -> list[str]:
    outcome = entry.outcome if entry.times == 1 else f"{entry.outcome} {entry.times} times"
    return [entry.at, entry.who or NOTHING, entry.origin or NOTHING, entry.what, outcome, entry.detail]

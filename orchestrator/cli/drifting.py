"""`drift`: whether an endpoint's requests still look like the data that its model was trained on."""

from typing import Any

import click

from orchestrator.cli.by_hand import running_endpoint
from orchestrator.cli.options import json_option, storage_option
from orchestrator.cli.printing import NOTHING, print_json, table
from orchestrator.domain.errors import InvalidInput
from orchestrator.journal import AnyStorage

SHOWN = 20  # columns, the worst first; --all shows the others


@click.command()
@click.argument("name")
@click.option("--all", "shows_all", is_flag=True, help=f"Every column; else the {SHOWN} that changed most.")
@storage_option
@json_option
def drift(name: str, shows_all: bool, storage: AnyStorage, as_json: bool) -> None:
    """Compare what the endpoint NAME is asked with its model's training data, column by column, and its predictions."""
    _, handle = running_endpoint(storage, name)
    found = handle.drift()
    if as_json:
        print_json({"endpoint": name, **found})
        return
    if not found["rows"]:
        raise InvalidInput(f"endpoint '{name}' was asked nothing yet with version {found['version']}")
    columns = found["columns"] if shows_all else found["columns"][:SHOWN]
    click.echo(table(HEAD, [_row(one) for one in (found["prediction"], *columns)]))
    hidden = len(found["columns"]) - len(columns)
    more = f"; {hidden} more columns with --all" if hidden else ""
    drifted = ", ".join(found["drifted"]) or "nothing"
    click.echo(f"\nversion {found['version']}, {found['rows']} rows; drifted: {drifted}{more}")


HEAD = ["COLUMN", "PSI", "KS", "P VALUE", "MISSING THEN", "NOW", "VERDICT"]


def _row(one: dict[str, Any]) -> list[str]:
    ks = NOTHING if one["ks"] is None else f"{one['ks']:.3f}"
    missing = [f"{one[share]:.1%}" for share in ("missing_then", "missing_now")]
    return [one["name"], f"{one['psi']:.3f}", ks, f"{one['p_value']:.2g}", *missing, str(one["verdict"])]

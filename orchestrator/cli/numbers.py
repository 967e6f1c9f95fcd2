"""`metrics`: the numbers of an endpoint's replicas, as Prometheus reads them."""

import click

from orchestrator.cli.by_hand import running_endpoint
from orchestrator.cli.options import json_option, storage_option
from orchestrator.cli.outside import Outside, outside_options
from orchestrator.cli.printing import print_json
from orchestrator.domain.errors import InvalidInput
from orchestrator.journal import AnyStorage


@click.command()
@click.argument("name")
@storage_option
@outside_options
@json_option
def metrics(name: str, storage: AnyStorage, outside: Outside | None, as_json: bool) -> None:
    """Show the numbers of all replicas of the endpoint NAME: requests, latency, errors, versions."""
    if outside is not None:
        if as_json:
            raise InvalidInput("--json is for where the endpoint runs; from outside metrics are Prometheus's text")
        click.echo(outside.endpoint(name).metrics(), nl=False)
        return
    _, handle = running_endpoint(storage, name)
    readings = handle.readings()
    if as_json:
        print_json([reading.to_dict() for reading in readings])
        return
    from deploy.monitoring.exposition import exposition

    click.echo(exposition(name, readings, is_whole=True).decode(), nl=False)

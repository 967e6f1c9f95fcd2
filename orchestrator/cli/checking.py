"""`check`: tries a study file in seconds, before trials are spent. Writes nothing."""

from pathlib import Path

import click

from orchestrator.api.study_file import read_study_file
from orchestrator.cli.options import json_option
from orchestrator.cli.pasting import pasted
from orchestrator.cli.printing import print_json


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def check(file: Path, as_json: bool) -> int:
    """Validate FILE, load its data, and train its default configuration for one step; nothing is written."""
    specification = read_study_file(file)
    from orchestrator.cli.rehearsal import rehearse

    found = rehearse(specification, lambda line: None if as_json else click.echo(f"ok  {line}"))
    if as_json:
        print_json(found.to_dict())
    elif found.problem:
        click.echo(found.traceback, err=True, nl=bool(found.traceback))
        click.echo(f"error: {found.problem}", err=True)
    else:
        click.echo(f"\n{file} is fit to run: {pasted('run', str(file))}")
    return 1 if found.problem else 0

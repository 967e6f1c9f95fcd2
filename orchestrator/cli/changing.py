"""`extend` gives a study more to spend, `rollback` lets its endpoint answer with an earlier version again."""

import shlex
from typing import Any

import click

from orchestrator.cli.options import json_option, storage_option
from orchestrator.cli.printing import print_json
from orchestrator.cli.serving import require_endpoint
from orchestrator.domain.errors import EndpointError, InvalidInput
from orchestrator.domain.specification import parse_seconds
from orchestrator.journal import AnyStorage
from orchestrator.process_graph.session_file import SessionFile, session_path
from orchestrator.study import Layout, read_study, studies_on


@click.command()
@click.argument("study")
@click.option("--trials", type=click.IntRange(min=1), help="How many trials in all, more than it has.")
@click.option("--time", help='How long in all, such as "10m".')
@storage_option
@json_option
def extend(study: str, trials: int | None, time: str | None, storage: AnyStorage, as_json: bool) -> None:
    """Give STUDY more to spend. One that runs goes on at once; one that has ended goes on with `resume`."""
    if trials is None and time is None:
        raise InvalidInput("extend takes --trials or --time: how much the study may spend in all")
    Layout(storage, study).require()
    seconds = None if time is None else parse_seconds("--time", time)
    runs = _extend(storage, study, trials, seconds)
    again = shlex.join(["orchestrator", "resume", study, "--storage", str(storage)])
    if as_json:
        print_json({"study": study, "runs": runs, "resume": again})
    else:
        click.echo(f"study '{study}' has more to spend" + ("" if runs else f"; go on with: {again}"))


def _extend(storage: AnyStorage, study: str, trials: int | None, seconds: float | None) -> bool:
    """Returns whether the study runs; it was told there, else in its journal."""
    session = SessionFile.read(session_path(storage))
    if session is not None:
        from orchestrator.cli.attaching import find_running

        running = find_running(storage, study, session, None)
        if running is not None:
            running.extend(trials, seconds)
            return True
    import time

    from orchestrator.study import StudyKeeper

    keeper = StudyKeeper.open(read_study(storage, study).specification, time.time, storage=storage)
    try:
        keeper.extend(trials=trials, seconds=seconds)
    finally:
        keeper.close()
    return False


@click.command()
@click.argument("name")
@click.option("--to", "version", type=click.IntRange(min=1), help="The version; else the one that answered before.")
@click.option("--why", default="", help="For the endpoint's history.")
@storage_option
@json_option
def rollback(name: str, version: int | None, why: str, storage: AnyStorage, as_json: bool) -> None:
    """Let the endpoint NAME answer with an earlier version again; a study that feeds it is told."""
    require_endpoint(storage, name)
    session = SessionFile.read(session_path(storage))
    if session is None:
        raise EndpointError(
            f"endpoint '{name}' does not run on {storage}; `orchestrator serve {name}` starts it, then roll back"
        )
    from deploy import endpoint_handle
    from orchestrator.process_graph.session import join_session

    join_session(session)
    answer = endpoint_handle(name).rollback(version, who="orchestrator rollback", why=why)
    told = [study for study in studies_on(storage) if _tell(storage, study, name, session, answer)]
    if as_json:
        print_json({"endpoint": name, "version": answer["version"], "changed": answer["changed"], "told": told})
    elif answer["changed"]:
        click.echo(f"endpoint '{name}' answers with version {answer['version']}")
    else:
        click.echo(f"endpoint '{name}' answers with version {answer['version']} already")


def _tell(storage: AnyStorage, study: str, name: str, session: SessionFile, answer: dict[str, Any]) -> bool:
    """Tells a running study that feeds the endpoint, so that it does not put the same challenger up again."""
    serve = read_study(storage, study).specification.serve
    if serve is None or serve.name != name:
        return False
    from orchestrator.cli.attaching import find_running

    running = find_running(storage, study, session, None)
    if running is not None:
        running.rolled_back(str(answer["version"]))
    return running is not None

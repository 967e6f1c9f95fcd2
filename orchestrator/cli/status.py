"""`status`: where a study stands, from its running actor or from its journal; `--graph` draws what runs."""

from pathlib import Path
from typing import Any

import click

from orchestrator.cli.looking import studies_table, summary_line
from orchestrator.cli.options import is_given, json_option, storage_option, token_file_option
from orchestrator.cli.pasting import pasted
from orchestrator.cli.printing import block, print_json
from orchestrator.cli.view import Moment, rows
from orchestrator.domain.errors import OrchestratorError
from orchestrator.journal import AnyStorage
from orchestrator.process_graph.job_address import is_job_server
from orchestrator.process_graph.session_file import SessionFile, session_path
from orchestrator.study import Phase, read_study, studies_on
from orchestrator.study import status as study_status


@click.command()
@click.argument("study", required=False)
@click.option("--graph", is_flag=True, help="Draw the process graph from Ray's live state.")
@storage_option
@click.option("--address", help="Of the Ray cluster that STUDY runs on, or of its job server; else this machine's.")
@token_file_option
@json_option
@click.pass_context
def status(
    ctx: click.Context,
    study: str | None,
    graph: bool,
    storage: AnyStorage,
    address: str | None,
    token_file: Path | None,
    as_json: bool,
) -> int:
    """Say where STUDY stands; without STUDY, what there is and what runs."""
    if address is not None and is_job_server(address):
        from orchestrator.cli.elsewhere import run_there

        if study is None:
            raise click.UsageError("with the address of a job server, give STUDY", ctx)
        words = ["status", study, *(["--graph"] if graph else [])]
        given = storage if is_given(ctx, "storage") else None
        return run_there(address, token_file, study, words, storage=given, as_json=as_json)
    session = SessionFile.read(session_path(storage))
    if graph:
        _draw(storage, session, address, as_json)
    elif study is not None:
        _tell_study(storage, study, session, address, as_json)
    else:
        _tell_all(storage, session, as_json)
    return 0


def _tell_study(
    storage: AnyStorage, study: str, session: SessionFile | None, address: str | None, as_json: bool
) -> None:
    now, runner, live = study_status(read_study(storage, study).state), None, False
    if (session is not None or address is not None) and now["phase"] != Phase.ENDED:
        now, runner, live = _asked(storage, study, session, address, now)
    if as_json:
        print_json(now | {"live": live, "runner": runner})
        return
    lines = [
        ("study", f"{study}, {_phase(now, live)}"),
        *rows(Moment(now, runner, serves=bool(runner and runner["endpoint"]))),
    ]
    if runner is None and now["champion"] is not None:
        champion = now["champion"]
        lines.append(
            ("champion", f"version {champion['version']} (trial {champion['trial']}, step {champion['step']})")
        )
    click.echo(block([line for line in lines if live or line[0] != "workers"]))
    if not live and now["phase"] != Phase.ENDED:
        click.echo(f"\nit does not run; go on with: {pasted('resume', study, storage=storage)}")


def _asked(
    storage: AnyStorage, study: str, session: SessionFile | None, address: str | None, read: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any] | None, bool]:
    """Returns what the running study says; what was read where it does not run, or does not answer."""
    from orchestrator.cli.attaching import ask_running

    try:
        running = ask_running(storage, study, session, address)
    except OrchestratorError as error:
        where = address or (session.address if session is not None else "")
        click.echo(f"the session at {where} does not answer ({error}); this is from the journal", err=True)
        return read, None, False
    if running is None:  # it may have ended while Ray was loaded
        return study_status(read_study(storage, study).state), None, False
    return running.status, running.runner, True


def _phase(now: dict[str, Any], live: bool) -> str:
    if now["phase"] == Phase.ENDED:
        return f"ended ({now['reason']})"
    return str(now["phase"]) if live else "interrupted"


def _tell_all(storage: AnyStorage, session: SessionFile | None, as_json: bool) -> None:
    lines = [summary_line(storage, name) for name in studies_on(storage)]
    running = None if session is None else {"address": session.address, "driver": _driver(session)}
    if as_json:
        print_json({"storage": str(storage), "session": running, "studies": lines})
        return
    click.echo(studies_table(lines) if lines else f"no studies on {storage}")
    if session is None:
        click.echo("\nnothing runs on this storage")
        return
    driver = _driver(session)
    watched = f", driven by process {driver}" if driver else ", no command watches it"
    click.echo(f"\nRay of ours runs at {session.address} (process {session.keeper.pid}){watched}")


def _driver(session: SessionFile) -> int | None:
    found = session.driver.find() if session.driver is not None else None
    return None if found is None else int(found.pid)


def _draw(storage: AnyStorage, session: SessionFile | None, address: str | None, as_json: bool) -> None:
    if session is None and address is None:
        if as_json:
            print_json({"address": None, "cpus": {}, "nodes": []})
        else:
            click.echo(f"nothing runs on {storage}")
        return
    from orchestrator.cli.drawing import print_graph
    from orchestrator.process_graph.graph import process_graph
    from orchestrator.process_graph.session import connect, join_session

    if address is not None:
        connect(address)
    elif session is not None:
        join_session(session)
    found = process_graph()
    if as_json:
        print_json(found.to_dict())
    else:
        print_graph(found.to_dict())

"""`stop` ends a study, `down` an endpoint, or everything of ours on a storage."""

import time
from pathlib import Path

import click

from orchestrator.cli.options import is_given, json_option, storage_option, token_file_option
from orchestrator.cli.pasting import pasted
from orchestrator.cli.printing import print_json
from orchestrator.cli.serving import require_endpoint
from orchestrator.journal import AnyStorage
from orchestrator.process_graph.job_address import is_job_server
from orchestrator.process_graph.session_file import SessionFile, session_path
from orchestrator.study import Layout, Phase, read_study

STOP_SECONDS = 60.0  # for the steps that run and the exports of what was found
DRIVER_SECONDS = 30.0  # for a command to end its own session
LOOK_SECONDS = 0.2


@click.command()
@click.argument("study")
@storage_option
@click.option("--address", help="Of the Ray cluster that it runs on, or of its job server; without it this machine's.")
@token_file_option
@json_option
@click.pass_context
def stop(
    ctx: click.Context, study: str, storage: AnyStorage, address: str | None, token_file: Path | None, as_json: bool
) -> int:
    """End STUDY where it runs: no trial is begun any more; what it found stays, and it can be resumed."""
    if address is not None and is_job_server(address):
        from orchestrator.cli.elsewhere import run_there

        given = storage if is_given(ctx, "storage") else None
        return run_there(address, token_file, study, ["stop", study], storage=given, as_json=as_json)
    Layout(storage, study).require()
    session = SessionFile.read(session_path(storage))
    trials = None if session is None and address is None else _stop(storage, study, session, address)
    if as_json:
        print_json({"study": study, "stopped": trials is not None, "trials": trials})
    elif trials is None:
        click.echo(f"study '{study}' does not run on {storage}; nothing to stop")
    else:
        again = pasted("resume", study, storage=storage)
        click.echo(f"study '{study}' is stopped after {trials} trials; go on with: {again}")
    return 0


def _stop(storage: AnyStorage, study: str, session: SessionFile | None, address: str | None) -> int | None:
    """Returns how many trials the study has; None where it does not run."""
    from orchestrator.cli.attaching import find_running

    running = find_running(storage, study, session, address)
    if running is None:
        return None
    watched = address is not None and running.is_watched()
    running.stop()
    deadline = time.monotonic() + STOP_SECONDS
    while (state := read_study(storage, study).state).phase is not Phase.ENDED and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    driver = session.driver.find() if session is not None and session.driver is not None else None
    if driver is None and not watched:  # else the command that watches it measures, and releases the actors
        running.release()
    return len(state.trials)


@click.command()
@click.argument("endpoint", required=False)
@storage_option
@json_option
def down(endpoint: str | None, storage: AnyStorage, as_json: bool) -> None:
    """End ENDPOINT; without one everything of ours that runs on a storage: studies, workers, endpoints, Ray."""
    session = SessionFile.read(session_path(storage))
    if endpoint is not None:
        require_endpoint(storage, endpoint)
        ended = [] if session is None else _end_endpoint(endpoint, session)
    else:
        ended = [] if session is None else _end(storage, session)
    if as_json:
        print_json({"storage": str(storage), "ended": ended})
    elif ended:
        click.echo("\n".join(f"ended {line}" for line in ended))
    else:
        click.echo(f"nothing runs on {storage}" if endpoint is None else f"endpoint '{endpoint}' does not run")
    if endpoint is not None and ended and not as_json:
        click.echo(f"\nbring it back with: {pasted('serve', endpoint, storage=storage)}", err=True)


def _end_endpoint(name: str, session: SessionFile) -> list[str]:
    from deploy import stop_endpoint
    from deploy.handle import find_handle
    from orchestrator.process_graph.session import join_session

    join_session(session)
    if find_handle(name) is None:
        return []
    stop_endpoint(name)
    return [f"endpoint '{name}'"]


def _end(storage: AnyStorage, session: SessionFile) -> list[str]:
    from orchestrator.cli.inventory import inventory
    from orchestrator.process_graph.session import end_session

    ended = inventory(session)
    driver = session.driver.find() if session.driver is not None else None
    if driver is not None:
        ended.append(f"the command that watched it (process {driver.pid})")
        driver.terminate()  # it ends its session itself, and says how to resume
        deadline = time.monotonic() + DRIVER_SECONDS
        while session.driver is not None and session.driver.find() and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
    end_session(storage)
    return ended

"""What somebody decides about an endpoint: `promote`, `rollback`, `freeze` and `unfreeze`.

In its cluster the endpoint actor is asked, and studies that feed the endpoint are told. With `--address` the endpoint
itself is, over HTTP.
"""

from typing import Any

import click

from orchestrator.cli.options import json_option, storage_option
from orchestrator.cli.outside import Outside, outside_options
from orchestrator.cli.pasting import pasted
from orchestrator.cli.printing import print_json
from orchestrator.cli.serving import require_endpoint
from orchestrator.domain.errors import EndpointError
from orchestrator.domain.rollout import by_hand
from orchestrator.journal import AnyStorage
from orchestrator.process_graph.session_file import SessionFile, session_path
from orchestrator.study import read_study, studies_on

CHAMPION_CHANGED = {"promoted", "rolled_back"}  # the events after which another version answers

why_option = click.option("--why", default="", help="For the endpoint's history.")


@click.command()
@click.argument("name")
@click.argument("version", type=click.IntRange(min=1))
@click.option(
    "--canary",
    type=click.FloatRange(0, 100),
    help="Try it first with that many percent of the requests, for 10 minutes; 0 for copies of them alone.",
)
@why_option
@storage_option
@outside_options
@json_option
def promote(
    name: str,
    version: int,
    canary: float | None,
    why: str,
    storage: AnyStorage,
    outside: Outside | None,
    as_json: bool,
) -> None:
    """Let the endpoint NAME answer all requests with VERSION: the challenger, an earlier one, or a withdrawn one.

    A study that feeds it is told. One that still runs may put up something better; `freeze` keeps it from that.
    """
    if outside is not None:
        remote = outside.endpoint(name)
        _say(name, remote.promote_version(version, why=why, canary=canary), [], as_json)
        return
    session, handle = running_endpoint(storage, name)
    if canary is not None and canary < 100:
        plan = by_hand(canary / 100)
        _say(name, handle.try_version(version, plan, who="orchestrator promote", why=why), [], as_json)
        return
    was_challenger = handle.standing(version)["state"] == "rollout"  # its study hears of that from the endpoint
    answer = handle.promote_version(version, who="orchestrator promote", why=why)
    told = [] if was_challenger else _tell(storage, name, session, answer)
    _say(name, answer, told, as_json)


@click.command()
@click.argument("name")
@click.option(
    "--to",
    "version",
    type=click.IntRange(min=1),
    help="The version; else the challenger is withdrawn, or where there is none the version before answers.",
)
@why_option
@storage_option
@outside_options
@json_option
def rollback(
    name: str,
    version: int | None,
    why: str,
    storage: AnyStorage,
    outside: Outside | None,
    as_json: bool,
) -> None:
    """Withdraw the challenger of the endpoint NAME, or let an earlier version answer; a study that feeds it is told."""
    if outside is not None:
        _say(name, outside.endpoint(name).rollback(version, why=why), [], as_json)
        return
    session, handle = running_endpoint(storage, name)
    answer = handle.rollback(version, who="orchestrator rollback", why=why)
    _say(name, answer, _tell(storage, name, session, answer), as_json)


@click.command()
@click.argument("name")
@why_option
@storage_option
@outside_options
@json_option
def freeze(name: str, why: str, storage: AnyStorage, outside: Outside | None, as_json: bool) -> None:
    """Let nothing change at the endpoint NAME by itself, forward or back, until `unfreeze`."""
    _freeze(name, why, storage, outside, as_json, frozen=True)


@click.command()
@click.argument("name")
@why_option
@storage_option
@outside_options
@json_option
def unfreeze(name: str, why: str, storage: AnyStorage, outside: Outside | None, as_json: bool) -> None:
    """Let the endpoint NAME change by itself again."""
    _freeze(name, why, storage, outside, as_json, frozen=False)


def _freeze(
    name: str,
    why: str,
    storage: AnyStorage,
    outside: Outside | None,
    as_json: bool,
    *,
    frozen: bool,
) -> None:
    if outside is not None:
        changed = outside.endpoint(name).freeze(frozen, why=why)
    else:
        _, handle = running_endpoint(storage, name)
        changed = handle.freeze(frozen, who=f"orchestrator {'freeze' if frozen else 'unfreeze'}", why=why)
    if as_json:
        print_json({"endpoint": name, "frozen": frozen, "changed": changed})
        return
    now = "changes by hand only" if frozen else "changes by itself"
    click.echo(f"endpoint '{name}' {now}{'' if changed else ' already'}")


def running_endpoint(storage: AnyStorage, name: str) -> tuple[SessionFile, Any]:
    """Returns the session in which the endpoint runs, and the endpoint's handle.

    Raises:
        EndpointError: it does not run.
    """
    require_endpoint(storage, name)
    session = SessionFile.read(session_path(storage))
    if session is None:
        raise EndpointError(
            f"endpoint '{name}' does not run on {storage}; `{pasted('serve', name, storage=storage)}` starts it"
        )
    from deploy import endpoint_handle
    from orchestrator.process_graph.session import join_session

    join_session(session)
    return session, endpoint_handle(name)


def _say(name: str, answer: dict[str, Any], told: list[str], as_json: bool) -> None:
    withdrawn = "withdrawn" in answer["events"]
    if as_json:
        said = {"version": answer["version"], "changed": answer["changed"], "events": answer["events"]}
        print_json({"endpoint": name, **said, "told": told})
        return
    already = "" if answer["changed"] else " already"
    out = "; the challenger was withdrawn" if withdrawn else ""
    out += "; the rollout begins" if "challenged" in answer["events"] else ""
    click.echo(f"endpoint '{name}' answers with version {answer['version']}{already}{out}")


def _tell(storage: AnyStorage, name: str, session: SessionFile, answer: dict[str, Any]) -> list[str]:
    """Tells the running studies that feed the endpoint of another champion; returns their names."""
    if not CHAMPION_CHANGED & set(answer["events"]):
        return []
    return [study for study in studies_on(storage) if _tell_study(storage, study, name, session, answer)]


def _tell_study(storage: AnyStorage, study: str, name: str, session: SessionFile, answer: dict[str, Any]) -> bool:
    """Tells a running study, so that it does not put the same challenger up again."""
    serve = read_study(storage, study).specification.serve
    if serve is None or serve.name != name:
        return False
    from orchestrator.cli.attaching import find_running

    running = find_running(storage, study, session, None)
    if running is not None:
        running.rolled_back(str(answer["version"]))
    return running is not None

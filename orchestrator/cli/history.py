"""`history`: which version of an endpoint answered when, and where it came from.

It needs the storage, not Ray; or with `--address` the endpoint and a token.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from deploy.answering.answer_id import parse_answer_id
from deploy.places import journal_directory
from deploy.rollout.evidence_file import EvidenceFile
from deploy.rollout.history import Change, answering, changes
from deploy.rollout.state import EndpointState, replay
from deploy.rollout.versions import Version
from orchestrator.cli.options import json_option, storage_option
from orchestrator.cli.outside import Outside, outside_options
from orchestrator.cli.printing import NOTHING, block, number, parameters, print_json, table
from orchestrator.cli.serving import require_endpoint
from orchestrator.domain.errors import InvalidInput, OrchestratorError
from orchestrator.journal import AnyStorage, read_journal
from orchestrator.study import read_study

Known = tuple[Sequence[Sequence[Mapping[str, Any]]], Mapping[int, Sequence[int]]]
"""An endpoint's journal, and by version how many labels judged it and how many of them proved it wrong."""


@click.command()
@click.argument("name")
@click.option("--at", help="A time, such as 2026-01-31T12:00 (UTC): what answered then.")
@click.option("--version", type=click.IntRange(min=1), help="A version: where it came from, and what became of it.")
@click.option("--answer", help="The id of an answer: the version that gave it.")
@storage_option
@outside_options
@json_option
def history(
    name: str,
    at: str | None,
    version: int | None,
    answer: str | None,
    storage: AnyStorage,
    outside: Outside | None,
    as_json: bool,
) -> None:
    """Say which version of the endpoint NAME answered when, who or what changed it, and why."""
    if sum(given is not None for given in (at, version, answer)) > 1:
        raise InvalidInput("history takes one of --at, --version and --answer")
    batches, labels = _read(storage, name) if outside is None else _told(name, outside)
    course, state = list(changes(batches)), replay(batches)
    if answer is not None:
        version = _version_of(answer)
    if version is not None:
        studies = storage if outside is None else None
        _show_version(studies, name, state, course, version, labels.get(version, (0, 0)), as_json)
    elif at is not None:
        _show_moment(name, state, answering(course, at), at, as_json)
    elif as_json:
        print_json([change.to_dict() for change in course])
    elif course:
        click.echo(_table(course))
        if state.frozen:
            click.echo(f"\nfrozen: {state.frozen}")
    else:
        click.echo(f"endpoint '{name}' never answered: no model was promoted")


def _read(storage: AnyStorage, name: str) -> Known:
    require_endpoint(storage, name)
    batches = list(read_journal(journal_directory(storage, name)))
    return batches, EvidenceFile(str(storage), name).book.versions


def _told(name: str, outside: Outside) -> Known:
    said = outside.endpoint(name).history()
    return [said["events"]], {int(version): counts for version, counts in said["labels"].items()}


def _version_of(answer: str) -> int:
    found = parse_answer_id(answer)
    if found is None:
        raise InvalidInput(f"'{answer[:80]}' is the id of no answer; give it as the answer's 'id' has it")
    return found.version


def _table(course: list[Change]) -> str:
    rows = [
        [change.at, change.event, _or_nothing(change.version), _answering(change), _by(change), change.why]
        for change in course
    ]
    return table(["TIME", "CHANGE", "VERSION", "ANSWERS FROM THEN ON", "BY", "WHY"], rows)


def _answering(change: Change) -> str:
    shares = ", ".join(f"{version} ({share:.0%})" for version, share in change.shares.items())
    if len(change.shares) == 1:
        shares = str(next(iter(change.shares)))
    return (shares or NOTHING) + (f", {change.shadow} in the shadow" if change.shadow is not None else "")


def _show_moment(name: str, state: EndpointState, change: Change | None, at: str, as_json: bool) -> None:
    if as_json:
        print_json(None if change is None else change.to_dict())
        return
    if change is None:
        click.echo(f"nothing answered at {at}: the first model of endpoint '{name}' came later")
        return
    rows = [("answered", _answering(change)), ("since", change.at), ("by", f"{_by(change)}: {change.why}")]
    rows += [
        (f"version {version}", f"study {state.versions[version].lineage.study}, trial {_trial(state, version)}")
        for version in change.shares
    ]
    click.echo(block(rows))


def _trial(state: EndpointState, version: int) -> str:
    lineage = state.versions[version].lineage
    return f"{lineage.trial}, step {lineage.step}"


def _show_version(
    storage: AnyStorage | None,
    name: str,
    state: EndpointState,
    course: list[Change],
    number_: int,
    labels: Sequence[int],
    as_json: bool,
) -> None:
    if number_ not in state.versions:
        known = ", ".join(map(str, state.versions)) or "none"
        raise InvalidInput(f"endpoint '{name}' has no version {number_}; there: {known}")
    version = state.versions[number_]
    mine = [change for change in course if change.version == number_]
    found = version.to_dict() | {
        "code_sha256": None if storage is None else _code_hash(storage, version),
        "labels": list(labels),
        "changes": [change.to_dict() for change in mine],
    }
    if as_json:
        print_json(found)
        return
    click.echo(block(_facts(found)))
    click.echo("\n" + _table(mine))


def _code_hash(storage: AnyStorage, version: Version) -> str | None:
    """Returns the hash of the code that trained it, as its study's journal has it; None where that is elsewhere."""
    try:
        created = read_study(storage, version.lineage.study).state.created
    except OrchestratorError:
        return None
    return None if created is None else created.code_sha256


def _facts(found: dict[str, Any]) -> list[tuple[str, str]]:
    lineage, (judged, wrong) = found["lineage"], found["labels"]
    versions = ", ".join(f"{package} {version}" for package, version in lineage["versions"].items())
    return [
        ("version", str(found["version"])),
        ("study", f"{lineage['study']}, trial {lineage['trial']}, step {lineage['step']}"),
        (lineage["metric"] or "value", number(lineage["value"])),
        ("params", parameters(lineage["params"])),
        ("seed", str(lineage["seed"])),
        ("data", lineage["data_sha256"] or NOTHING),
        ("code", found["code_sha256"] or NOTHING),
        ("made", f"{lineage['created'] or NOTHING} {f'with {versions}' if versions else ''}".strip()),
        ("bundle", f"{found['uri']} ({found['digest'][:12]})"),
        ("labels", f"{wrong} wrong of {judged}" if judged else NOTHING),
    ]


def _by(change: Change) -> str:
    """Returns who decided, and from where that came over HTTP."""
    return f"{change.who} from {change.origin}" if change.origin else change.who or NOTHING


def _or_nothing(value: object) -> str:
    return NOTHING if value is None else str(value)

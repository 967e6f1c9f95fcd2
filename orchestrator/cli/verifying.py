"""`verify`: the laws of a study, checked against its journal and its storage."""

from typing import Any

import click

from orchestrator.cli.options import json_option, storage_option
from orchestrator.cli.printing import print_json
from orchestrator.domain.errors import BundleError, StorageError
from orchestrator.domain.events import from_record
from orchestrator.journal import AnyStorage, read_journal
from orchestrator.study import BundleState, Layout, Phase, read_study, snapshot_breaches
from orchestrator.study.laws import referred, summary, violations
from orchestrator.study.state import StudyState


@click.command()
@click.argument("study")
@storage_option
@json_option
def verify(study: str, storage: AnyStorage, as_json: bool) -> int:
    """Check that STUDY keeps its laws: each trial once, no report twice, what is referred to exists unchanged.

    A study that runs may be checked too; what its workers are writing is no breach.
    """
    found, checked = examine(storage, study)
    if as_json:
        print_json({"study": study, "breaches": found, "checked": checked})
    elif found:
        click.echo("\n".join(f"breach: {line}" for line in found))
    else:
        counted = ", ".join(f"{count} {name}" for name, count in checked.items())
        click.echo(f"study '{study}' keeps its laws: {counted}")
    return 1 if found else 0


def examine(storage: AnyStorage, study: str) -> tuple[list[str], dict[str, Any]]:
    """Returns each breach in a line, and what was checked.

    Raises:
        UnknownStudy, JournalDamaged, JournalTooNew: there is nothing that could be checked.
    """
    layout = Layout(storage, study).require()
    events = [from_record(record) for batch in read_journal(layout.journal) for record in batch]
    state = read_study(storage, study).state
    found = (
        violations(state, events)
        + snapshot_breaches(storage, study)
        + _checkpoint_breaches(layout, state)
        + _bundle_breaches(state)
    )
    if state.phase is Phase.ENDED:
        found += _leftover_breaches(layout, state)
    return found, summary(state)


def _checkpoint_breaches(layout: Layout, state: StudyState) -> list[str]:
    from orchestrator.tuning.workshop import checkpoints_on

    store, found = checkpoints_on(layout.checkpoints), []
    for ref in referred(state)[0]:
        try:
            store.fetch(ref)
        except StorageError as error:
            found.append(str(error))
    return found


def _bundle_breaches(state: StudyState) -> list[str]:
    from deploy.copies import open_bundle

    found = []
    for record in state.bundles.values():
        if record.uri and record.state is not BundleState.REJECTED:
            try:
                open_bundle(record.uri)
            except (BundleError, StorageError) as error:
                found.append(str(error))
    return found


def _leftover_breaches(layout: Layout, state: StudyState) -> list[str]:
    from orchestrator.tuning.sweeping import leftovers

    checkpoints, bundles = referred(state)
    unknown = leftovers(layout, [ref.uri for ref in checkpoints], bundles)
    return [f"{path} is referred to by nothing" for path in unknown]

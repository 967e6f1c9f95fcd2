"""Drives a study from its specification to its end, and tells an observer how it goes.

The command line and `Study.run` stand on this. On Ray the study lives in the cluster: what is here only watches it, and
when it is killed the study goes on; the same call again finds it.
"""

import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from orchestrator.domain.errors import InvalidSpecification, SessionLost, StorageError, StudyBusy
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import AnyStorage, Storage
from orchestrator.study import Layout, Phase, StudyKeeper, first_failure, read_study, savings, status
from orchestrator.study.laws import referred
from orchestrator.tuning.code import Code, trial_defaults
from orchestrator.tuning.inline import run_inline
from orchestrator.tuning.steady_clock import SteadyClock
from orchestrator.tuning.sweeping import sweep
from orchestrator.tuning.versions import versions
from orchestrator.tuning.workshop import Workshop

MOST_SESSIONS = 10  # of local Rays that one command begins, one after the other
LOOK_SECONDS = 0.25  # how often the cluster is asked how it goes


class Observer(Protocol):
    """Hears how a study goes. Called by one thread."""

    def say(self, line: str) -> None:
        """Takes a line for people; the next one may replace it."""

    def look(self, status: Mapping[str, Any], runner: Mapping[str, Any] | None) -> None:
        """Takes the study's status (`orchestrator.study.status`) and, on Ray, the runner's (`Runner.describe`)."""


class Silence:
    """An observer that tells nobody."""

    def say(self, line: str) -> None:
        """Nothing."""

    def look(self, status: Mapping[str, Any], runner: Mapping[str, Any] | None) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a study stands after it was driven."""

    status: Mapping[str, Any]
    savings: Mapping[str, float] | None
    failure: Mapping[str, Any] | None  # the first one that tells what is wrong
    bundles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    endpoint: Mapping[str, Any] | None = None  # it answers until the session is ended
    runner: Mapping[str, Any] | None = None


def drive(specification: StudySpecification, code: Code, observer: Observer, *, address: str | None = None) -> Outcome:
    """Runs the study to its end, or goes on with it; blocks.

    On a local Ray the session stays when this returns, so that the endpoint answers; `end_session` ends it. An
    interrupt leaves a study that the same call resumes, with its session still there.

    Raises:
        StudyBusy: another process drives it.
        InvalidSpecification: the journal is that of another study.
        ClusterError: Ray cannot be reached or started, or the runner failed.
    """
    storage = Storage.of(specification.storage)
    if specification.execution == "inline":
        return _drive_inline(specification, storage, code, observer)
    return _drive_on_ray(specification, storage, code, observer, address)


def ended_outcome(specification: StudySpecification) -> Outcome | None:
    """Returns the outcome of a study that has come to its own end; None where there is something to run.

    Raises:
        JournalDamaged, JournalTooNew: its journal cannot be read.
    """
    storage = Storage.of(specification.storage)
    if not Layout(storage, specification.study).exists():
        return None
    state = read_study(storage, specification.study).state
    if state.phase is not Phase.ENDED or state.reason in ("stopped", "failing"):
        return None
    bundles = {r.bundle: {"uri": r.uri, "purpose": r.purpose, "state": str(r.state)} for r in state.bundles.values()}
    return Outcome(status(state), savings(state), first_failure(state), bundles)


def set_aside(specification: StudySpecification) -> str | None:
    """Moves the study and its endpoint's history out of the way, so that it begins anew; returns where they are."""
    storage = Storage.of(specification.storage)
    kept = storage.child(f".old/{specification.study}-{time.strftime('%Y%m%d-%H%M%S')}")
    names = [specification.study] + ([f"endpoints/{specification.serve.name}"] if specification.serve else [])
    there = [name for name in names if storage.exists(name)]
    for name in there:
        _move(storage, name, kept)
    return kept.uri if there else None


def _move(storage: Storage, name: str, kept: Storage) -> None:
    """Moves a folder; an object store has no such thing, so its files are copied, and then deleted."""
    if storage.is_local:
        target = kept.local_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(storage.local_path / name, target)
        return
    for file in storage.names(f"{name}/"):
        kept.write_from(file, partial(storage.chunks, file))
    storage.delete_tree(name)


def _drive_inline(specification: StudySpecification, storage: AnyStorage, code: Code, observer: Observer) -> Outcome:
    specification = specification.with_changes(serve=None)  # nothing can be served without a cluster
    resolved = code.resolve()
    keeper = StudyKeeper.open(
        specification,
        SteadyClock(),
        storage=storage,
        defaults=trial_defaults(resolved),
        code_sha256=code.sha256,
        versions=versions(),
    )
    try:
        keeper.reopen()
        data, sha256 = load_data(specification, keeper)
        workshop = Workshop(specification, code, data, storage, sha256, versions())
        run_inline(keeper, workshop, lambda: observer.look(status(keeper.study.state, keeper.now()), None))
        state = keeper.study.state
        observer.look(status(state), None)
        return Outcome(status(state), savings(state), first_failure(state))
    finally:
        keeper.close()


def load_data(specification: StudySpecification, keeper: StudyKeeper) -> tuple[Any, str]:
    """Returns the split data and its hash, and records what the trivial predictor reaches on it."""
    if specification.data is None:
        return None, ""
    from trainables.data import baseline, load, split

    asked = specification.data
    parts = split(load(asked.source, target=asked.target), asked.test, asked.validation, asked.seed)
    keeper.measured(
        baseline=baseline(parts, specification.objective.metric.removeprefix("val_")), data_sha256=parts.sha256
    )
    return parts, parts.sha256


def _drive_on_ray(
    specification: StudySpecification, storage: AnyStorage, code: Code, observer: Observer, address: str | None
) -> Outcome:
    """Runs the study on Ray; where a local Ray dies under it, a new one goes on from the storage."""
    for _ in range(MOST_SESSIONS - 1):
        try:
            return _drive_in_session(specification, storage, code, observer, address)
        except SessionLost:
            observer.say("Ray has died; starting it again…")
            _forget_session()
    return _drive_in_session(specification, storage, code, observer, address)


def _drive_in_session(
    specification: StudySpecification, storage: AnyStorage, code: Code, observer: Observer, address: str | None
) -> Outcome:
    from orchestrator.process_graph.launch import launch
    from orchestrator.process_graph.session import claim_session, connect, start_session

    observer.say("starting Ray…")
    is_there = _always
    if address is None:
        serve = specification.serve
        reserved = serve.reserved_cpus if serve else 0.0
        session = start_session(storage, reserved_cpus=reserved, say=observer.say)
        claim_session(storage, session, specification.study)
        address, is_there = session.address, session.is_there
    else:
        address = connect(address)
    observer.say("starting the study…")
    running = replace(launch(specification, storage, code, address=address), is_there=is_there)
    while True:
        runner = running.runner_status()
        now = running.status()
        observer.look(now, runner)
        if now["phase"] == "ended":
            break
        if runner["phase"] == "failed":
            running.release()
            raise _runner_failed(runner["error"])
        time.sleep(LOOK_SECONDS)
    outcome = running.outcome()
    running.release()
    _sweep(storage, specification.study)
    return Outcome(
        now, outcome["savings"], outcome["failure"], outcome["bundles"], endpoint=runner["endpoint"], runner=runner
    )


def _always() -> bool:
    return True


def _forget_session() -> None:
    from orchestrator.process_graph.session import disconnect

    disconnect()


def _sweep(storage: AnyStorage, study: str) -> None:
    """Takes away what an ended study does not refer to; its workers are released."""
    checkpoints, bundles = referred(read_study(storage, study).state)
    sweep(Layout(storage, study), [ref.uri for ref in checkpoints], bundles)


def _runner_failed(error: str) -> Exception:
    last = error.strip().splitlines()[-1] if error.strip() else "no reason given"
    name, _, message = last.partition(": ")
    for kind in (InvalidSpecification, StorageError):
        if name.rpartition(".")[2] == kind.__name__:
            return kind(message)
    from orchestrator.domain.errors import ClusterError

    return ClusterError(f"the runner failed: {last}\n{error}")


__all__ = ["Observer", "Outcome", "Silence", "StudyBusy", "drive", "ended_outcome", "load_data", "set_aside"]

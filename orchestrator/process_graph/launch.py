"""Brings a study up in the Ray cluster that this process is connected to, and finds one that runs."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util import list_named_actors

from orchestrator.domain.errors import ClusterError, OrchestratorError, SessionLost
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import AnyStorage
from orchestrator.process_graph.cluster import ON_HEAD, require_room, require_shared_storage
from orchestrator.process_graph.names import NAMESPACE, runner_name, study_actor_name, study_of
from orchestrator.process_graph.placements import give_back_placements
from orchestrator.process_graph.runner import Runner
from orchestrator.process_graph.serving import require_owner
from orchestrator.process_graph.study_actor import StudyActor
from orchestrator.tuning.code import Code, trial_defaults
from orchestrator.tuning.versions import versions

FOREVER = {"lifetime": "detached", "num_cpus": 0, "max_restarts": -1, "max_task_retries": -1} | ON_HEAD
WATCHED_SECONDS = 5.0  # whoever watches asks four times a second
LOOK_SECONDS = 1.0  # between two looks whether Ray itself still lives
RELEASE_SECONDS = 20.0  # for a runner whose study has ended; its workers leave at their next word
RELEASE_LOOK_SECONDS = 0.05
ASK_SECONDS = 60.0  # an actor that restarts replays its journal first


@dataclass(frozen=True)
class RunningStudy:
    """A study in the cluster, from outside."""

    specification: StudySpecification
    storage: AnyStorage
    study: Any
    runner: Any
    is_there: Callable[[], bool] = field(default=lambda: True)
    """Whether the Ray session that it runs in still lives, as far as this host can tell."""

    def _ask(self, reference: Any) -> Any:
        return ask(reference, self.is_there)

    def status(self) -> dict[str, Any]:
        """Returns where the study stands; see `orchestrator.study.status`."""
        return _plain(self._ask(self.study.status.remote()))

    def outcome(self) -> dict[str, Any]:
        """Returns savings, the first failure and the bundles."""
        return _plain(self._ask(self.study.outcome.remote()))

    def runner_status(self) -> dict[str, Any]:
        """Returns how the study is run: execution, slots, endpoint, errors."""
        return _plain(self._ask(self.runner.describe.remote()))

    def stop(self, reason: str = "stopped") -> None:
        """Begins no more trials; what runs is sent away at its next word."""
        self._ask(self.study.stop.remote(reason))

    def is_watched(self) -> bool:
        """Returns whether some command watches the study to its end; that one releases it."""
        return bool(self._ask(self.runner.unwatched_seconds.remote()) < WATCHED_SECONDS)

    def extend(self, trials: int | None, seconds: float | None, space: Mapping[str, Any] | None = None) -> None:
        """Goes on within a larger budget, in a wider space, or both; what is None stays as it is."""
        self._ask(self.study.extend.remote(trials, seconds, space))

    def rolled_back(self, version: str) -> None:
        """Tells the study that its endpoint answers with an earlier version again."""
        self._ask(self.study.rolled_back.remote(version))

    def release(self) -> None:
        """Ends the study's actors and gives their room back; the study stays on its storage, and so does its endpoint.

        A runner whose study has ended is let finish: killed while it asks for a slot's room, it would never get there.
        """
        deadline = time.monotonic() + RELEASE_SECONDS
        with suppress(OrchestratorError, RayError):  # an actor that is gone has nothing to finish
            while self.status()["phase"] == "ended" and self.runner_status()["phase"] in ("starting", "tuning"):
                if time.monotonic() > deadline:
                    break
                time.sleep(RELEASE_LOOK_SECONDS)
        for actor in (self.runner, self.study):
            ray.kill(actor, no_restart=True)
        give_back_placements(self.storage, self.specification.study)


def launch(specification: StudySpecification, storage: AnyStorage, code: Code, *, address: str) -> RunningStudy:
    """Returns the study, begun or going on; asked again, it changes nothing.

    Args:
        specification: what was asked for.
        storage: where it is kept.
        code: what the trials run.
        address: of the Ray cluster, for the study's journal.

    Raises:
        StudyBusy, InvalidSpecification, JournalDamaged: see `StudyKeeper.open`.
        ClusterError, StorageError: the cluster has no host for it, or one that does not see the storage.
        EndpointError: there is no endpoint whose replicas it could share.
    """
    if find(specification, storage) is None:
        require_room(specification)
        require_shared_storage(storage)
        if specification.serve is not None and specification.serve.share:
            require_owner(specification.serve.share, storage)
    plain = specification.to_dict()
    defaults = trial_defaults(code.resolve())
    study = (
        ray.remote(StudyActor)
        .options(
            name=study_actor_name(storage, specification.study), namespace=NAMESPACE, get_if_exists=True, **FOREVER
        )
        .remote(plain, str(storage), defaults, code.sha256, versions(), address)
    )
    try:
        ask(study.reopen.remote())
    except OrchestratorError:
        ray.kill(study, no_restart=True)
        raise
    runner = (
        ray.remote(Runner)
        .options(name=runner_name(storage, specification.study), namespace=NAMESPACE, get_if_exists=True, **FOREVER)
        .remote(plain, str(storage), study, code)
    )
    return RunningStudy(specification, storage, study, runner)


def find(specification: StudySpecification, storage: AnyStorage) -> RunningStudy | None:
    """Returns the study if its actors live in the cluster that this process is connected to."""
    try:
        study = ray.get_actor(study_actor_name(storage, specification.study), namespace=NAMESPACE)
        runner = ray.get_actor(runner_name(storage, specification.study), namespace=NAMESPACE)
    except ValueError:
        return None
    return RunningStudy(specification, storage, study, runner)


def running_studies() -> dict[str, Any]:
    """Returns the actors of all studies in the cluster that this process is connected to, by the study's name."""
    named = [entry["name"] for entry in list_named_actors(all_namespaces=True) if entry["namespace"] == NAMESPACE]
    studies = {name: study for name in named if (study := study_of(name)) is not None}
    return {study: ray.get_actor(name, namespace=NAMESPACE) for name, study in studies.items()}


def ask(reference: Any, is_there: Callable[[], bool] = lambda: True) -> Any:
    """Returns an actor's answer; its errors as our own. An actor that restarts is waited for.

    Raises:
        SessionLost: Ray itself has died meanwhile.
        ClusterError: no answer came in time, or the actor is gone for good.
    """
    deadline = time.monotonic() + ASK_SECONDS
    while True:
        try:
            return ray.get(reference, timeout=LOOK_SECONDS)
        except GetTimeoutError as error:
            _require(is_there, error)
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the study's actor did not answer within {ASK_SECONDS:.0f} s; is the host overloaded? "
                    "The same command again goes on where this one was"
                ) from error
        except RayTaskError as error:
            if isinstance(error.cause, OrchestratorError):
                raise error.cause from None
            raise
        except RayError as error:
            _require(is_there, error)
            raise ClusterError(f"the study's actor is gone: {str(error).splitlines()[0]}") from error


def _require(is_there: Callable[[], bool], error: Exception) -> None:
    if not is_there():
        raise SessionLost("the local Ray has died; the same command again goes on where this one was") from error


def _plain(answer: Any) -> dict[str, Any]:
    assert isinstance(answer, Mapping)
    return dict(answer)

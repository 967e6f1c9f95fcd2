"""The study actor: the one writer of a study, for all of the cluster.

A plain class; `launch` makes it a Ray actor: named, detached, 0 CPU, restarting by itself. Every life of it opens the
journal anew, and with that an epoch. Its methods run one at a time.
"""

import os
from collections.abc import Mapping
from typing import Any

from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.space import Space
from orchestrator.domain.specification import StudySpecification
from orchestrator.study import StudyKeeper, first_failure, savings, status
from orchestrator.study.laws import referred
from orchestrator.tuning.steady_clock import SteadyClock


class StudyActor:
    """The study, its journal, and the beats of its hosts."""

    def __init__(
        self,
        specification: Mapping[str, Any],
        storage: str,
        defaults: Mapping[str, Any] | None,
        code_sha256: str,
        versions: Mapping[str, str],
        address: str,
    ) -> None:
        self._refusal: OrchestratorError | None = None
        self._opened: StudyKeeper | None = None
        try:
            self._opened = StudyKeeper.open(
                StudySpecification.from_dict(specification),
                SteadyClock(),
                storage=storage,
                defaults=defaults,
                code_sha256=code_sha256,
                versions=versions,
                address=address,
            )
        except OrchestratorError as error:  # an actor whose constructor raises is started again and again by Ray
            self._refusal = error

    @property
    def _keeper(self) -> StudyKeeper:
        """The study; or why it cannot be had, raised at whoever asks."""
        if self._opened is None:
            assert self._refusal is not None
            raise self._refusal
        return self._opened

    def exchange(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """The one door: a worker's word and its answer."""
        return self._keeper.exchange_wire(message)

    def tick(self, workers: int, room: tuple[int, Mapping[str, int] | None] | None = None) -> dict[str, Any]:
        """Looks at the clocks and tells the runner what the study wants of it.

        Args:
            workers: how many there should be.
            room: how many may stay, in all and on each host, where replicas need the room of the others; None where
                they do not.
        """
        study = self._keeper.study
        study.workers = workers
        if room is not None:
            self._keeper.shrink(*room)
        self._keeper.tick()
        return {
            "phase": str(study.state.phase),
            "wants_workers": study.is_waiting_for_workers(),
            "challenger": study.challenger(),
            "fenced": list(study.fenced),
        }

    def beat(self, host: str) -> None:
        """A host lives; sent by a process that runs no user code."""
        self._keeper.beat(host)

    def worker_lost(self, worker: str, cause: str, blame: bool) -> None:
        """A worker's process is gone."""
        self._keeper.worker_lost(worker, cause=cause, blame=blame)

    def all_workers_lost(self, cause: str) -> None:
        """A new runner begins: whatever earlier ones ran is gone."""
        self._keeper.all_workers_lost(cause)

    def measured(self, baseline: float | None, data_sha256: str) -> None:
        """What the trivial predictor reaches, and which data it was."""
        self._keeper.measured(baseline=baseline, data_sha256=data_sha256)

    def promoted(self, bundle: str, version: str) -> None:
        """The endpoint answers with the bundle."""
        self._keeper.promoted(bundle, version)

    def rejected(self, bundle: str, reason: str) -> None:
        """The endpoint refused the bundle."""
        self._keeper.rejected(bundle, reason)

    def serves_no_more(self, reason: str) -> None:
        """There is no endpoint, and nothing to wait for."""
        self._keeper.serves_no_more(reason)

    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Adds a trial with a configuration of the user's."""
        self._keeper.enqueue(dict(params))

    def stop(self, reason: str) -> None:
        """Begins no more trials."""
        self._keeper.stop(reason)

    def reopen(self) -> None:
        """Goes on with a study that was ended by hand."""
        self._keeper.reopen()

    def extend(self, trials: int | None, seconds: float | None, space: Mapping[str, Any] | None = None) -> None:
        """Goes on within a larger budget, in a wider space (as a study file writes it), or both."""
        wider = None if space is None else Space.from_dict(space)
        self._keeper.extend(trials=trials, seconds=seconds, space=wider)

    def rolled_back(self, version: str) -> None:
        """The endpoint answers with an earlier version again."""
        self._keeper.rolled_back(version)

    def referred(self) -> tuple[list[str], list[str]]:
        """Returns the addresses of the checkpoints and of the bundles that the study refers to."""
        checkpoints, bundles = referred(self._keeper.study.state)
        return [ref.uri for ref in checkpoints], bundles

    def status(self) -> dict[str, Any]:
        """Where the study stands; see `orchestrator.study.status`."""
        state = self._keeper.study.state
        return status(state, self._keeper.now()) | {"pid": os.getpid()}

    def outcome(self) -> dict[str, Any]:
        """What only the end needs: savings, the first failure, the bundles."""
        state = self._keeper.study.state
        return {
            "savings": savings(state),
            "failure": first_failure(state),
            "bundles": {
                record.bundle: {"uri": record.uri, "purpose": record.purpose, "state": str(record.state)}
                for record in state.bundles.values()
            },
        }

    def close(self) -> None:
        """Gives the journal up."""
        self._keeper.close()

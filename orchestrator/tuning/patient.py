"""A study's checkpoints as its trials use them: an outage of the storage delays a trial, and is no fault of its own."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from orchestrator.domain.errors import StorageError
from orchestrator.domain.trials import CheckpointRef
from orchestrator.tuning.checkpoints import Checkpoints
from orchestrator.tuning.outage import outlast


class PatientCheckpoints:
    """Other checkpoints, asked again while their storage is away; see `Checkpoints`."""

    def __init__(self, store: Checkpoints, outage_seconds: float) -> None:
        self._store = store
        self._seconds = outage_seconds

    def publish(self, trial: int, step: int, write: Callable[[Path], bool]) -> CheckpointRef | None:
        """Returns the reference; waits for the storage, which a trial at a milestone cannot do without.

        What `write` raises counts if it raises again: a disk that was full for a moment only leaves no other trace.
        """

        def publish() -> CheckpointRef | None:
            return outlast(lambda: self._store.publish(trial, step, write), seconds=self._seconds)

        try:
            return publish()
        except (StorageError, MemoryError):
            raise
        except Exception:  # noqa: BLE001 - the user's code
            return publish()

    def begin(self, trial: int, step: int, write: Callable[[Path], bool]) -> CheckpointRef | None:
        """Returns None where it fails, too: the next one may go better."""
        with suppress(StorageError):
            return self._store.begin(trial, step, write)
        return None

    def finished(self, trial: int) -> CheckpointRef | None:
        """Returns the reference of a checkpoint that was begun and is published by now; each one once."""
        return self._store.finished(trial)

    def forget(self, trial: int) -> None:
        """Lets go of what was begun for a trial."""
        self._store.forget(trial)

    def fetch(self, ref: CheckpointRef) -> Path:
        """Returns the local directory of a checkpoint; waits for the storage."""
        return outlast(lambda: self._store.fetch(ref), seconds=self._seconds)

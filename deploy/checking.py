"""What a bundle has to show before it may answer: it is whole, of the lineage that was said, and answers its own rows.

A model can end the process that runs it, and the endpoint actor runs each bundle before it records it. So it notes down
what it checks: Ray starts it again and asks again, and a bundle under whose check it died twice is refused unrun. Once
may be an accident; nobody is blamed for it when the next check ends well. The notes are a host's own, in a file each.
"""

import hashlib
import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from deploy.answering.black_box import own_folder
from deploy.bundle import Lineage, Schema
from deploy.copies import open_bundle
from deploy.rollout.versions import Offer
from orchestrator.domain.errors import BundleError

logger = logging.getLogger(__name__)

MOST_DEATHS = 2
_ENDING = ".check"


class BundleChecks:
    """Checks bundles for one endpoint, one after the other or several at once. `folder` is this host's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._noting = threading.Lock()
        self._checked: Counter[Path] = Counter()  # how many checks of a bundle are under way in this process

    def offer(self, uri: str, lineage: dict[str, Any] | None) -> Offer:
        """Returns what may be promoted.

        Args:
            uri: of the bundle.
            lineage: of which it is said to be; None: of its own.

        Raises:
            BundleError: it is missing, damaged, cannot answer, is not of that lineage, or ended the process twice.
            StorageError: the object store cannot be reached.
        """
        with self._noted(uri):
            bundle = open_bundle(uri)
            bundle.warm_up()
        wanted = bundle.lineage if lineage is None else Lineage.from_dict(lineage)
        if _origin(wanted) != _origin(bundle.lineage):
            raise BundleError(
                f"The bundle {uri} is of (study, trial, step) {_origin(bundle.lineage)}, not of {_origin(wanted)} as "
                "was said. Promote it with its own lineage."
            )
        return Offer(bundle.uri, bundle.digest, bundle.lineage)

    @contextmanager
    def _noted(self, uri: str) -> Iterator[None]:
        """Keeps, for the time of a `with` block, that the bundle is being checked; an error in it is no death.

        Raises:
            BundleError: the process died under it, too often.
        """
        note = self._folder / f"{hashlib.sha256(uri.encode()).hexdigest()[:32]}{_ENDING}"
        with self._noting:
            if not self._checked[note]:
                self._begin(uri, note)
            self._checked[note] += 1
        try:
            yield
        finally:
            with self._noting:
                self._checked[note] -= 1
                if not self._checked[note]:
                    with suppress(OSError):  # it could not be written either
                        note.unlink()

    def _begin(self, uri: str, note: Path) -> None:
        """Writes that a check has begun: a byte for each that did not end."""
        try:
            own_folder(self._folder)
            died = note.stat().st_size if note.exists() else 0
            if died < MOST_DEATHS:
                with note.open("ab") as file:
                    file.write(b"x")
        except OSError as error:
            logger.warning("Should a bundle end this process, it will be run again: %s", error)
            return
        if died >= MOST_DEATHS:
            raise BundleError(
                f"The bundle {uri} ended the process that checked it, {died} times, and is not run again. If that was "
                f"no fault of the model, delete {note} and ask once more."
            )


def require_alike(champion_uri: str, version: int, uri: str) -> None:
    """Refuses a challenger that other requests would have to be sent to than to the champion.

    Raises:
        BundleError: it takes or gives other columns or labels.
    """
    if _interface(open_bundle(champion_uri).schema) != _interface(open_bundle(uri).schema):
        raise BundleError(
            f"The bundle {uri} takes or gives other columns or labels than version {version}, which answers: requests "
            "cannot be shared between them. Promote it without a rollout (kind: full)."
        )


def _interface(schema: Schema) -> tuple[object, ...]:
    return schema.columns, schema.kind, schema.labels, tuple((column.name, column.kind) for column in schema.raw)


def _origin(lineage: Lineage) -> tuple[str, int, int]:
    return lineage.study, lineage.trial, lineage.step

"""The model that answers: one reference, changed as a whole."""

from dataclasses import dataclass
from urllib.parse import quote

from deploy.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded bundle under the version that the endpoint gave it; `generation` orders the endpoint's decisions."""

    bundle: Bundle
    version: int
    generation: int

    @property
    def headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """Who answered, as HTTP headers; a study's name is percent-encoded where a header could not hold it."""
        lineage = self.bundle.lineage
        return (
            (b"x-model-version", str(self.version).encode()),
            (b"x-study", quote(lineage.study).encode()),
            (b"x-trial", str(lineage.trial).encode()),
        )


class ModelSlot:
    """Holds the one model that answers, or None.

    Written by the replica that owns it, read by its requests: each reads the reference once, and so keeps one model
    from its check to its answer however often the slot changes meanwhile.
    """

    def __init__(self) -> None:
        self._served: Served | None = None

    @property
    def served(self) -> Served | None:
        """The model that answers now."""
        return self._served

    def put(self, served: Served) -> bool:
        """Makes `served` answer from the next request on; returns False when a later decision is already in place."""
        if self._served is not None and served.generation < self._served.generation:
            return False
        self._served = served
        return True

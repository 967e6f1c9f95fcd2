"""Random search: each active parameter uniform on its own scale (Bergstra and Bengio 2012)."""

from collections.abc import Mapping

from orchestrator.domain.seeds import generator
from orchestrator.domain.space import Configuration, Space, Value


class RandomSearch:
    """The suggester that learns nothing; keeps the port's contract. One writer: the study that owns it."""

    def __init__(self, space: Space, seed: int) -> None:
        self._space = space
        self._seed = seed

    def suggest(self, trial: int) -> dict[str, Value]:
        """Returns the configuration that (seed, trial) stands for."""
        return self._space.sample(generator(self._seed, trial, "suggest"))

    def is_exhausted(self) -> bool:
        """Returns False."""
        return False

    def started(self, trial: int, configuration: Configuration) -> None:
        """Changes nothing."""

    def observed(self, trial: int, resource: int, loss: float) -> None:
        """Changes nothing."""

    def ended(self, trial: int, *, failed: bool) -> None:
        """Changes nothing."""

    def widened(self, space: Space) -> None:
        """Draws from the wider space."""
        self._space = space

    def told(self) -> None:
        """Returns None: nothing that it was told changes what it answers."""

    def restore(self, told: object, configurations: Mapping[int, Configuration]) -> None:
        """Changes nothing."""

"""Quasi-random search: a scrambled Sobol' sequence (Sobol' 1967; Owen 1998; scipy's), more even than random points.

Each parameter with more than one value has a dimension of its own; where its condition does not hold its coordinate is
not used. Trial n gets point n, whatever happened before.
"""

from collections.abc import Mapping

from scipy.stats import qmc

from orchestrator.domain.seeds import derive_seed
from orchestrator.domain.space import Configuration, Space, Value
from orchestrator.search.codes import code_of


class SobolSearch:
    """The suggester that learns nothing; keeps the port's contract. One writer: the study that owns it."""

    def __init__(self, space: Space, seed: int) -> None:
        self._seed = derive_seed(seed, 0, "sobol")
        self._open(space)

    def suggest(self, trial: int) -> dict[str, Value]:
        """Returns the configuration that (seed, trial) stands for; a leap back begins the sequence again."""
        point = dict(zip(self._dimensions, self._point(trial), strict=True))
        configuration: dict[str, Value] = {}
        for name, code in self._codes.items():
            if self._space.is_active(name, configuration):
                configuration[name] = code.decode_share(point.get(name, 0.0))
        return configuration

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
        """Lays the same sequence over the wider space."""
        self._open(space)

    def told(self) -> None:
        """Returns None: nothing that it was told changes what it answers."""

    def restore(self, told: object, configurations: Mapping[int, Configuration]) -> None:
        """Changes nothing."""

    def _open(self, space: Space) -> None:
        self._space = space
        self._codes = {name: code_of(parameter) for name, parameter in space.parameters.items()}
        self._dimensions = [name for name, code in self._codes.items() if not code.is_constant]
        self._begin()

    def _begin(self) -> None:
        # 32 bits: the sequence ends after 2^30 points with scipy's default, and with more it cannot leap
        self._sequence = qmc.Sobol(max(1, len(self._dimensions)), scramble=True, bits=32, rng=self._seed)

    def _point(self, number: int) -> list[float]:
        """Returns the point: (n_dimensions,) shares in [0, 1)."""
        if number < self._sequence.num_generated:
            self._begin()
        if number > self._sequence.num_generated:
            self._sequence.fast_forward(number - self._sequence.num_generated)
        shares: list[float] = self._sequence.random(1)[0].tolist()
        return shares[: len(self._dimensions)]

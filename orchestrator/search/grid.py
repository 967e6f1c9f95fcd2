"""Grid search: every configuration of the grid once, in a fixed order, then no more.

What somebody else began (the trainable's defaults, a configuration of the user's) counts, and is not begun again.
"""

from collections.abc import Mapping

from orchestrator.domain.grid import Grid, Point
from orchestrator.domain.space import Configuration, Space, Value


class GridSearch:
    """The suggester; keeps the port's contract. One writer: the study that owns it."""

    def __init__(self, space: Space, points: int | None) -> None:
        self._points_each = points
        self._configurations: dict[int, Configuration] = {}  # by trial
        self._open(space)

    def suggest(self, trial: int) -> dict[str, Value]:
        """Returns the first configuration that was not begun, whichever trial asks."""
        assert self._next is not None, "the grid is exhausted"
        return self._grid.configuration(self._next)

    def is_exhausted(self) -> bool:
        """Returns whether all of the grid was begun."""
        return self._next is None

    def started(self, trial: int, configuration: Configuration) -> None:
        """Passes over the configuration from now on."""
        self._configurations[trial] = configuration
        self._begin(configuration)
        self._pass_over()

    def observed(self, trial: int, resource: int, loss: float) -> None:
        """Changes nothing."""

    def ended(self, trial: int, *, failed: bool) -> None:
        """Changes nothing."""

    def widened(self, space: Space) -> None:
        """Goes through the wider grid from its beginning, without what was begun."""
        self._configurations = {trial: space.complete(begun) for trial, begun in self._configurations.items()}
        self._open(space)

    def told(self) -> None:
        """Returns None: what was begun is known from the configurations."""

    def restore(self, told: object, configurations: Mapping[int, Configuration]) -> None:
        """Passes over what was begun."""
        self._configurations = dict(configurations)
        for configuration in configurations.values():
            self._begin(configuration)
        self._pass_over()

    def _open(self, space: Space) -> None:
        self._grid = Grid(space, self._points_each)
        self._begun: set[Point] = set()
        for configuration in self._configurations.values():
            self._begin(configuration)
        self._next: Point | None = self._grid.first()
        self._pass_over()

    def _begin(self, configuration: Configuration) -> None:
        point = self._grid.point_of(configuration)
        if point is not None:
            self._begun.add(point)

    def _pass_over(self) -> None:
        while self._next is not None and self._next in self._begun:
            self._next = self._grid.after(self._next)

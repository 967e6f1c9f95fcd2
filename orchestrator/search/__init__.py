"""Which configuration to try next.

`port` is the contract; `random`, `grid`, `sobol` (scipy) and `tpe` (Optuna) keep it, the last two with `codes` between
numbers and our parameters. Optuna and scipy are imported when a study asks for them, not before.
"""

from importlib import import_module

from orchestrator.domain.errors import InvalidSpecification, did_you_mean
from orchestrator.domain.space import Space
from orchestrator.domain.specification import ENGINES
from orchestrator.search.grid import GridSearch
from orchestrator.search.port import Suggester
from orchestrator.search.random import RandomSearch

__all__ = ["GridSearch", "RandomSearch", "Suggester", "make_suggester"]


def make_suggester(engine: str, space: Space, seed: int, points: int | None = None) -> Suggester:
    """Returns the search engine of that name; "auto" is TPE. `points` is the grid's, per continuous parameter.

    Raises:
        InvalidSpecification: there is no such engine, or the space has no grid.
    """
    if engine == "random":
        return RandomSearch(space, seed)
    if engine == "grid":
        return GridSearch(space, points)
    if engine == "sobol":
        sobol: Suggester = import_module("orchestrator.search.sobol").SobolSearch(space, seed)
        return sobol
    if engine in ("auto", "tpe"):
        suggester: Suggester = import_module("orchestrator.search.tpe").TpeSearch(space, seed)
        return suggester
    raise InvalidSpecification(
        f"search.engine: given {engine!r}; it is one of {', '.join(ENGINES)}.{did_you_mean(str(engine), ENGINES)}"
    )

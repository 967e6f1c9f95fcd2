"""Which configuration to try next.

`port` is the contract; `random` and `tpe` (Optuna, with `codes` between its numbers and our parameters) keep it. Optuna
is imported when a study asks for it, not before.
"""

from importlib import import_module

from orchestrator.domain.errors import InvalidSpecification, did_you_mean
from orchestrator.domain.space import Space
from orchestrator.domain.specification import ENGINES
from orchestrator.search.port import Suggester
from orchestrator.search.random import RandomSearch

__all__ = ["RandomSearch", "Suggester", "make_suggester"]


def make_suggester(engine: str, space: Space, seed: int) -> Suggester:
    """Returns the search engine of that name; "auto" is TPE.

    Raises:
        InvalidSpecification: there is no such engine.
    """
    if engine == "random":
        return RandomSearch(space, seed)
    if engine in ("auto", "tpe"):
        suggester: Suggester = import_module("orchestrator.search.tpe").TpeSearch(space, seed)
        return suggester
    raise InvalidSpecification(
        f"search.engine: given {engine!r}; it is one of {', '.join(ENGINES)}.{did_you_mean(str(engine), ENGINES)}"
    )

"""Who goes on, who waits, who stops.

`port` is the contract; `asha` (with its `rung`) and `none` keep it.
"""

from orchestrator.domain.errors import InvalidSpecification, did_you_mean
from orchestrator.domain.specification import SCHEDULERS, SchedulerSpecification
from orchestrator.schedulers.asha import Asha, rung_levels
from orchestrator.schedulers.none import NoEarlyStopping
from orchestrator.schedulers.port import Scheduler

__all__ = ["Asha", "NoEarlyStopping", "Scheduler", "make_scheduler", "rung_levels"]


def make_scheduler(specification: SchedulerSpecification) -> Scheduler:
    """Returns the scheduler that the specification names.

    Raises:
        InvalidSpecification: there is no such scheduler.
    """
    if specification.kind == "asha":
        stops = specification.mode == "stop"
        return Asha(specification.min, specification.max, specification.eta, stops=stops)
    if specification.kind == "none":
        return NoEarlyStopping(specification.max)
    raise InvalidSpecification(
        f"scheduler.kind: given {specification.kind!r}; it is one of {', '.join(SCHEDULERS)}."
        f"{did_you_mean(specification.kind, SCHEDULERS)}"
    )

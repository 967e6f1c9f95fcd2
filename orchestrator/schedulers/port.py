"""The port behind which every scheduler of trials stands.

A scheduler judges trials at milestones: resource levels that it names itself. The study tells it everything in one
order, live and at a replay alike; what it answers depends on nothing but those calls.
"""

from typing import Any, Protocol

from orchestrator.domain.trials import Decision


class Scheduler(Protocol):
    """Decides who goes on. One writer: the study that owns it."""

    def milestone(self, trial: int, step: int) -> int:
        """Returns the next resource level above `step` at which the trial is to be judged."""

    def judge(self, trial: int, step: int, *, can_wait: bool = True) -> Decision:
        """Returns the decision about a trial whose value at the milestone `step` was recorded before.

        PAUSE means that it may be promoted later; STOP that it never will be; a trial at the maximum is stopped.
        A trial that cannot wait, because it saves nothing, is told CONTINUE or STOP: it goes on while there are too
        few to compare it with. It changes nothing: asked twice, it answers the same.
        """

    def promotable(self) -> tuple[int, int] | None:
        """Returns (trial, its rung) of the paused trial that should go on next, the highest rung first, or None.

        It changes nothing.
        """

    def recorded(self, trial: int, step: int, loss: float) -> None:
        """The trial had `loss` (smaller is better, +inf where it was not finite) at the milestone `step`, once."""

    def decided(self, trial: int, step: int, decision: Decision) -> None:
        """The decision that was taken and journalled at `step`; CONTINUE counts as a promotion out of that rung."""

    def resumed(self, trial: int) -> None:
        """A paused trial goes on: it is promoted out of the rung in which it waited."""

    def ended(self, trial: int) -> None:
        """The trial is over or was given up; it is never promotable again. What it recorded stays."""

    def rungs(self) -> list[dict[str, Any]]:
        """Returns [{"resource": level, "trials": recorded, "promoted": out of it}], from low to high, for people."""

    def told(self) -> Any:
        """Returns all that it was told, as plain JSON data with finite numbers."""

    def restore(self, told: Any) -> None:
        """Takes over, new as it is, what another one of the same rungs was told: from now on both answer alike."""

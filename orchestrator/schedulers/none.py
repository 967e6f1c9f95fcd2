"""No early stopping: every trial runs to the maximum, or to its own end before that."""

from typing import Any

from orchestrator.domain.trials import Decision


class NoEarlyStopping:
    """The scheduler; keeps the port's contract. One writer: the study that owns it."""

    def __init__(self, high: int) -> None:
        self._high = high
        self._at_the_end: set[int] = set()

    def milestone(self, trial: int, step: int) -> int:
        """Returns the maximum."""
        return self._high

    def judge(self, trial: int, step: int, *, can_wait: bool = True) -> Decision:
        """Returns STOP at the maximum, CONTINUE below."""
        return Decision.STOP if step >= self._high else Decision.CONTINUE

    def promotable(self) -> tuple[int, int] | None:
        """Returns None: nobody is ever paused."""
        return None

    def recorded(self, trial: int, step: int, loss: float) -> None:
        """Counts the trials at the maximum."""
        if step >= self._high:
            self._at_the_end.add(trial)

    def decided(self, trial: int, step: int, decision: Decision) -> None:
        """Changes nothing."""

    def resumed(self, trial: int) -> None:
        """Changes nothing: a trial that somebody else paused goes on."""

    def ended(self, trial: int) -> None:
        """Changes nothing."""

    def rungs(self) -> list[dict[str, Any]]:
        """Returns one rung, at the maximum."""
        return [{"resource": self._high, "trials": len(self._at_the_end), "promoted": 0}]

    def told(self) -> Any:
        """Returns the trials at the maximum."""
        return sorted(self._at_the_end)

    def restore(self, told: Any) -> None:
        """Takes over what another one was told."""
        self._at_the_end = set(told)

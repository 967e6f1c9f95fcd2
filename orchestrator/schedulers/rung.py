"""One rung: what trials were worth at one resource level, and who waits there.

Both lists stay sorted by (loss, trial), in short pieces, so that a rank and an arrival take a few microseconds at the
100,000th trial too.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.domain.errors import InvalidTransition
from orchestrator.domain.ranking import Ranking


class Rung:
    """The trials recorded at `resource`. One writer: the scheduler that owns it."""

    def __init__(self, resource: int) -> None:
        self.resource = resource
        self._losses: dict[int, float] = {}
        self._ranking = Ranking()  # of (loss, trial): ties by trial number
        self._waiting = Ranking()
        self._promoted: set[int] = set()

    def record(self, trial: int, loss: float) -> None:
        """Ranks a trial that reached the rung.

        Raises:
            InvalidTransition: it was recorded here before.
        """
        if trial in self._losses:
            raise InvalidTransition(
                f"trial {trial} was recorded at resource {self.resource} before (loss {self._losses[trial]}); "
                "a trial is compared at a rung once, also when it runs again"
            )
        self._losses[trial] = loss
        self._ranking.add((loss, trial))

    def loss(self, trial: int) -> float:
        """Returns what the trial was worth here.

        Raises:
            InvalidTransition: it was not recorded.
        """
        if trial not in self._losses:
            raise InvalidTransition(f"trial {trial} has no value at resource {self.resource}; record it first")
        return self._losses[trial]

    def is_top(self, trial: int, eta: int) -> bool:
        """Returns whether the trial is among the best floor(n / eta) of the n recorded, with a finite loss."""
        loss = self.loss(trial)
        places = len(self._ranking) // eta
        return math.isfinite(loss) and self._ranking.position((loss, trial)) < places

    def is_full_enough(self, eta: int) -> bool:
        """Returns whether somebody is among the best 1/eta at all."""
        return len(self._ranking) >= eta

    def wait(self, trial: int) -> None:
        """The trial is paused here."""
        self._waiting.add((self.loss(trial), trial))

    def leave(self, trial: int) -> None:
        """The trial waits here no more."""
        self._waiting.remove((self.loss(trial), trial))

    def promote(self, trial: int) -> None:
        """The trial goes on to the next rung."""
        self._promoted.add(trial)

    def best_waiting(self) -> int | None:
        """Returns the best of the trials that wait here, or None."""
        first = self._waiting.first
        return None if first is None else int(first[1])

    def summary(self) -> dict[str, Any]:
        """Returns plain data for people."""
        return {"resource": self.resource, "trials": len(self._losses), "promoted": len(self._promoted)}

    def told(self) -> dict[str, Any]:
        """Returns all that is known here, as plain data; a loss that is not finite as None."""
        return {
            "losses": [(trial, loss if math.isfinite(loss) else None) for trial, loss in self._losses.items()],
            "waiting": [trial for _, trial in self._waiting],
            "promoted": sorted(self._promoted),
        }

    def restore(self, told: Mapping[str, Any]) -> Sequence[int]:
        """Takes over what another rung was told; returns the trials that wait here."""
        self._losses = {trial: math.inf if loss is None else loss for trial, loss in told["losses"]}
        self._ranking = Ranking((loss, trial) for trial, loss in self._losses.items())
        self._waiting = Ranking((self._losses[trial], trial) for trial in told["waiting"])
        self._promoted = set(told["promoted"])
        return list(told["waiting"])

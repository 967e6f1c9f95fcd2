"""ASHA: asynchronous successive halving with pause and promotion, or with stopping.

Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning" (arXiv 1810.05934), algorithm 2: a trial is
promoted out of a rung when it is among the best floor(n / eta) of the n trials recorded there *and* was not promoted
before. A trial already promoted keeps its place in the ranking; one that has since fallen out of the best takes none.
With fewer than eta trials in a rung nobody is promoted. Whether a trial that reaches a rung goes on at once or waits
is the same rule asked at another moment.

The stopping variant (that of Ray Tune; Syne Tune has both) asks that rule once, when the trial
arrives: it goes on or is stopped for good, and while a rung holds fewer than eta everybody goes on. It takes no
checkpoint to let a trial wait and no moment to load it again; it spends more on those that came early, and does not
come back to one that a later trial would have let through.
"""

import math
from typing import Any

from orchestrator.domain.errors import InvalidTransition
from orchestrator.domain.trials import Decision
from orchestrator.schedulers.rung import Rung


def rung_levels(low: int, high: int, eta: int) -> list[int]:
    """Returns low, low·eta, low·eta², … below `high`, and `high` itself.

    Whole numbers throughout: a logarithm in floating point loses the last rung of 3^5 or 10^3.

    >>> rung_levels(1, 27, 3)
    [1, 3, 9, 27]
    >>> rung_levels(2, 25, 3)
    [2, 6, 18, 25]
    """
    levels = []
    while low < high:
        levels.append(low)
        low *= eta
    return [*levels, high]


class Asha:
    """The scheduler; keeps the port's contract. One writer: the study that owns it.

    With `stops` nobody waits: who is not among the best on arrival is stopped.
    """

    def __init__(self, low: int, high: int, eta: int, *, stops: bool = False) -> None:
        self._eta = eta
        self._stops = stops
        self._rungs = [Rung(level) for level in rung_levels(low, high, eta)]
        self._by_level = {rung.resource: rung for rung in self._rungs}
        self._below_top_first = self._rungs[-2::-1]  # nobody is promoted out of the last one
        self._waits_in: dict[int, Rung] = {}  # by trial

    def milestone(self, trial: int, step: int) -> int:
        """Returns the next rung's resource above `step`; the maximum where there is none."""
        for rung in self._rungs:
            if rung.resource > step:
                return rung.resource
        return self._rungs[-1].resource

    def judge(self, trial: int, step: int, *, can_wait: bool = True) -> Decision:
        """Returns CONTINUE for the best 1/eta of the rung, PAUSE for the others, STOP at the maximum or for +inf.

        A trial that cannot wait, and each one where nobody does, is judged once: it goes on while the rung holds fewer
        than eta, and is stopped where it is not among the best.
        """
        can_wait = can_wait and not self._stops
        if step >= self._rungs[-1].resource:
            return Decision.STOP
        rung = self._rung(step)
        if not math.isfinite(rung.loss(trial)):
            return Decision.STOP
        if rung.is_top(trial, self._eta) or not (can_wait or rung.is_full_enough(self._eta)):
            return Decision.CONTINUE
        return Decision.PAUSE if can_wait else Decision.STOP

    def promotable(self) -> tuple[int, int] | None:
        """Returns (trial, its rung's resource), the highest rung first, there the best trial first.

        Only the best that waits in a rung has to be looked at: if it is not among the top, none behind it is. Where
        trials are stopped, one waits only because its study ended just when it was let through: it goes on in any case.
        """
        for rung in self._below_top_first:
            trial = rung.best_waiting()
            if trial is not None and (self._stops or rung.is_top(trial, self._eta)):
                return trial, rung.resource
        return None

    def recorded(self, trial: int, step: int, loss: float) -> None:
        """Ranks the trial in the rung at `step`."""
        self._rung(step).record(trial, loss)

    def decided(self, trial: int, step: int, decision: Decision) -> None:
        """Lets the trial wait in the rung (PAUSE) or counts it as promoted out of it (CONTINUE)."""
        rung = self._rung(step)
        if decision is Decision.PAUSE:
            rung.wait(trial)
            self._waits_in[trial] = rung
        elif decision is Decision.CONTINUE:
            rung.promote(trial)

    def resumed(self, trial: int) -> None:
        """Counts the trial as promoted out of the rung in which it waited."""
        if trial not in self._waits_in:
            raise InvalidTransition(f"trial {trial} waits in no rung, so it cannot be promoted out of one")
        rung = self._waits_in.pop(trial)
        rung.leave(trial)
        rung.promote(trial)

    def ended(self, trial: int) -> None:
        """Takes the trial out of those that wait."""
        if trial in self._waits_in:
            self._waits_in.pop(trial).leave(trial)

    def rungs(self) -> list[dict[str, Any]]:
        """Returns the rungs from low to high."""
        return [rung.summary() for rung in self._rungs]

    def told(self) -> Any:
        """Returns what each rung knows, by its resource."""
        return {str(rung.resource): rung.told() for rung in self._rungs}

    def restore(self, told: Any) -> None:
        """Takes over what another one was told."""
        for rung in self._rungs:
            waiting = rung.restore(told[str(rung.resource)])
            self._waits_in.update(dict.fromkeys(waiting, rung))

    def _rung(self, step: int) -> Rung:
        if step not in self._by_level:
            raise InvalidTransition(
                f"step {step} is no milestone; trials are judged at {', '.join(map(str, self._by_level))}"
            )
        return self._by_level[step]

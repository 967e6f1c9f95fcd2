"""How a challenger takes over: at once, after a time in the shadow, or by growing shares of the requests."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

ROLLOUTS = ("full", "shadow", "canary")
SHADOW = 0.0
"""The weight of a step whose challenger gets copies of requests, and answers none."""

DEFAULT_STEPS: Mapping[str, tuple[float, ...]] = {"full": (), "shadow": (SHADOW,), "canary": (0.05, 0.25)}
DEFAULT_SECONDS = 60.0
BY_HAND_SECONDS = 600.0
"""How long somebody who tries a version by hand has to look at it, before it answers all requests."""


@dataclass(frozen=True, slots=True)
class RolloutPlan:
    """The steps of a rollout, how long each lasts, and what ends it.

    `steps` are the challenger's shares of the requests before it answers all of them, rising; 0 is the shadow. A step
    lasts `seconds`, or until the challenger was asked `requests` times in it; exactly one of them is given. `alpha`
    bounds the chance that a challenger which is no worse is withdrawn, over the whole rollout.

    `errors` is by how much a larger share of the challenger's requests may fail; an answer is slow where it takes
    `slower` times what nine of ten of the champion's took; `disagreement` is the share of requests that it may answer
    differently (None: any).
    """

    kind: str = "full"
    steps: tuple[float, ...] = ()
    seconds: float | None = DEFAULT_SECONDS
    requests: int | None = None
    alpha: float = 0.05
    errors: float = 0.01
    slower: float = 3.0
    disagreement: float | None = None

    @property
    def each(self) -> int | str:
        """How long a step lasts, as the study file has it: a number of requests, or a time."""
        return self.requests if self.requests is not None else f"{self.seconds:g}s"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"steps": list(self.steps)}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "RolloutPlan":
        """Returns the plan that `to_dict` wrote."""
        return cls(**{**given, "steps": tuple(float(step) for step in given["steps"])})


def by_hand(weight: float) -> RolloutPlan:
    """Returns the plan of a rollout that somebody begins by hand with a share of the requests, from 0 to below 1."""
    return RolloutPlan("canary" if weight else "shadow", (weight,), BY_HAND_SECONDS)

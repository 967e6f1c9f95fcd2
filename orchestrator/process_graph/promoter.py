"""Promotion: the bundle that the study chose goes to the endpoint, and the endpoint's word back into the study.

Without a rollout the endpoint answers with it at once. With one the study waits for the endpoint's decision, and offers
nothing else meanwhile; one that is ending waits while the rollout moves, and then leaves it to the endpoint.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray

from deploy import EndpointHandle, endpoint_handle
from orchestrator.domain.errors import BundleError, EndpointError
from orchestrator.domain.rollout import RolloutPlan

PATIENCE_SECONDS = 30.0  # of a study that is ending, while its challenger gets no request and takes no step
UNDECIDED = ("waiting", "rollout")
ASK_SECONDS = 1.0  # between two looks at a challenger that waits: each one opens and checks its bundle


@dataclass(slots=True)
class Candidacy:
    """A challenger that the endpoint has not decided about: where it stood, and when that changed last."""

    bundle: str
    version: int | None
    standing: tuple[Any, ...]
    moved_at: float
    asked_at: float


class Promoter:
    """Brings one challenger at a time to the endpoint. Asking twice is safe on both sides."""

    def __init__(self, study: Any, plan: RolloutPlan, clock: Callable[[], float] = time.monotonic) -> None:
        self._study = study
        self._plan = plan
        self._clock = clock
        self._candidacy: Candidacy | None = None

    @property
    def waits(self) -> str:
        """What the endpoint said last of a challenger that it has not decided about; empty where there is none."""
        candidacy = self._candidacy
        if candidacy is None:
            return ""
        _, reason, asked = candidacy.standing
        name = "one" if candidacy.version is None else f"version {candidacy.version}"
        return f"{name} waits: {reason}" + (f", asked {asked} times" if asked else "")

    def promote(self, endpoint: str, challenger: Mapping[str, Any], *, is_ending: bool = False) -> None:
        """Offers the challenger to the endpoint, or looks what has become of it, and records the endpoint's decision.

        A bundle that the endpoint refuses is rejected. `is_ending`: the study waits for nothing else.
        """
        candidacy = self._candidacy
        if candidacy is not None and candidacy.bundle != challenger["bundle"]:
            candidacy = self._candidacy = None
        if candidacy is not None and self._clock() - candidacy.asked_at < ASK_SECONDS:
            return
        try:
            said = self._ask(endpoint_handle(endpoint), challenger, candidacy)
        except BundleError as error:
            self.refuse(challenger, str(error))
            return
        except EndpointError:
            return  # it is away for a moment: the study goes on offering the challenger
        if said["state"] not in UNDECIDED:
            self._candidacy = None
        if said["state"] == "full":
            ray.get(self._study.promoted.remote(challenger["bundle"], str(said["version"])))
        elif said["state"] == "withdrawn":
            self.refuse(challenger, f"version {said['version']} was withdrawn: {said['reason']}")
        elif said["state"] == "former":
            self.refuse(challenger, f"version {said['version']} answered, and somebody put another one in its place")
        else:
            self._wait(challenger, said, is_ending)

    def _ask(
        self, handle: EndpointHandle, challenger: Mapping[str, Any], candidacy: Candidacy | None
    ) -> Mapping[str, Any]:
        if candidacy is not None and candidacy.version is not None:
            return handle.standing(candidacy.version)
        why = f"value {challenger['value']} at step {challenger['step']} of trial {challenger['trial']}"
        return handle.offer(challenger["uri"], self._plan, who="study", why=why)

    def _wait(self, challenger: Mapping[str, Any], said: Mapping[str, Any], is_ending: bool) -> None:
        now, standing = self._clock(), (said["state"], said["reason"], said.get("asked"))
        before = self._candidacy
        moved_at = now if before is None or before.standing != standing else before.moved_at
        self._candidacy = Candidacy(challenger["bundle"], said["version"], standing, moved_at, now)
        if is_ending and now - moved_at >= PATIENCE_SECONDS:
            goes_on = said["state"] == "rollout"
            rest = f"version {said['version']} goes on by itself" if goes_on else "it was never tried"
            self._candidacy = None
            self.refuse(challenger, f"the study ended while the endpoint had not decided ({said['reason']}); {rest}")

    def refuse(self, challenger: Mapping[str, Any], reason: str) -> None:
        """Records that the challenger will not be the champion."""
        ray.get(self._study.rejected.remote(challenger["bundle"], reason))

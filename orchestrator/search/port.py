"""The port behind which every search engine stands.

The study tells a suggester everything that happens to trials, in one order, live and at a replay alike. What it
answers may depend on nothing but those calls, the space and the study's seed.
"""

from collections.abc import Mapping
from typing import Any, Protocol

from orchestrator.domain.space import Configuration, Space, Value


class Suggester(Protocol):
    """Proposes configurations. One writer: the study that owns it."""

    def suggest(self, trial: int) -> dict[str, Value]:
        """Returns a configuration of the space for a trial that is new to the suggester.

        The same calls before it, the same space and seed give the same configuration in every process. Its random
        numbers come from (seed, trial, "suggest"). It changes nothing: asked twice, it answers the same. It is not
        asked once it is exhausted.
        """

    def is_exhausted(self) -> bool:
        """Returns whether there is no configuration left to suggest. Costs next to nothing."""

    def started(self, trial: int, configuration: Configuration) -> None:
        """The configuration is pending: somebody evaluates it from now on."""

    def observed(self, trial: int, resource: int, loss: float) -> None:
        """The trial had `loss` (smaller is better; +inf where it was not finite) at a resource level.

        Low levels are told too; a suggester must not take them for values at the full resource. A level may be told
        once only; later levels of one trial are larger.
        """

    def ended(self, trial: int, *, failed: bool) -> None:
        """The trial is not pending any more: over, or paused for now. A paused trial may be observed again later."""

    def widened(self, space: Space) -> None:
        """From now on configurations come from a space that holds all of the one before.

        What was told stays known; a configuration of before had the defaults of the parameters that are new.
        """

    def told(self) -> Any:
        """Returns what it was told of the trials but their configurations, as plain JSON data with finite numbers."""

    def restore(self, told: Any, configurations: Mapping[int, Configuration]) -> None:
        """Takes over, new as it is, what another one of this space and seed was told: from now on both answer alike.

        `configurations` are those of all trials that were started, whole in the space as it is now.
        """

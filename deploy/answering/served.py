"""The model that answers, and the one that may take over: one reference, changed as a whole."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from deploy.answering.black_box import BlackBox
from deploy.answering.call_cost import CallCost
from deploy.answering.tally import Tally
from deploy.bundle import Bundle


@dataclass(frozen=True, slots=True)
class Served:
    """A loaded bundle under the version that the endpoint gave it; `generation` orders the endpoint's decisions.

    `contender` is the challenger that is in its rollout beside this champion, where there is one. `cost` is what a call
    of the model takes; where that was not measured each request has a call of its own.
    """

    bundle: Bundle
    version: int
    generation: int
    contender: "Contender | None" = None
    cost: CallCost | None = None
    headers: tuple[tuple[bytes, bytes], ...] = field(init=False, repr=False, compare=False)
    """Who answered, as HTTP headers; a study's name is percent-encoded where a header could not hold it."""

    said: Mapping[str, Any] = field(init=False, repr=False, compare=False)
    """The same for an answer in JSON."""

    @property
    def rollout(self) -> int:
        """The number of the rollout that goes on; 0 where there is none."""
        return 0 if self.contender is None else self.contender.number

    def __post_init__(self) -> None:
        """Writes who answers once, for all answers."""
        version, study, trial = str(self.version), self.bundle.lineage.study, self.bundle.lineage.trial
        headers = {b"x-model-version": version, b"x-study": quote(study), b"x-trial": str(trial)}
        object.__setattr__(self, "headers", tuple((name, value.encode()) for name, value in headers.items()))
        object.__setattr__(self, "said", {"version": version, "study": study, "trial": trial})


@dataclass(frozen=True, slots=True)
class Contender:
    """A challenger in its rollout, loaded: the rollout's number, its share of the requests, and what was counted.

    `box` keeps that it computes, for the case that it ends this process.
    """

    served: Served
    number: int
    weight: float
    tally: Tally
    box: BlackBox | None = None

    def computing(self) -> AbstractContextManager[None]:
        """Returns what to hold while this model is asked."""
        return nullcontext() if self.box is None else self.box.computing(self.number)


class ModelSlot:
    """Holds the one model that answers, or None.

    Written by the replica that owns it, read by its requests: each reads the reference once, and so keeps one model
    from its check to its answer however often the slot changes meanwhile.
    """

    def __init__(self) -> None:
        self._served: Served | None = None

    @property
    def served(self) -> Served | None:
        """The model that answers now."""
        return self._served

    def put(self, served: Served) -> bool:
        """Makes `served` answer from the next request on; returns False when a later decision is already in place."""
        if self._served is not None and served.generation < self._served.generation:
            return False
        self._served = served
        return True

"""The contract between the program and a model that it trains.

A trainable is built once for a configuration, then stepped. One step spends one unit of resource (an epoch, a
boosting round, a fold) and returns that step's metrics. It is used by one thread of one process at a time.

A class may also say `resource = "fit"`: its one step trains it to the end, and a second one would only repeat it. A
class that says nothing, or "rounds", can be stepped for as long as somebody wants to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Lineage


@dataclass(frozen=True, slots=True)
class Context:
    """What a trial may know besides its configuration and the data."""

    seed: int  # of this trial; every random number of the trial comes from it
    threads: int = 1  # the CPUs of its worker
    device: str = "cpu"


@runtime_checkable
class Trainable(Protocol):
    """A model in training."""

    defaults: ClassVar[Mapping[str, Any]]
    """The configuration of somebody who does not tune; completed by the space's middles."""

    def build(self, params: Mapping[str, Any], data: Any, context: Context) -> None:
        """Makes the untrained model for a configuration; `data` is a `trainables.data.Split` or the user's own."""

    def step(self) -> Mapping[str, float]:
        """Spends one unit of resource and returns the metrics after it."""

    def save(self, directory: Path) -> None:
        """Writes the state into the empty `directory`, so that `load` goes on as if nothing had happened."""

    def load(self, directory: Path) -> None:
        """Goes on from a saved state; `build` was called before with the same configuration and data."""

    def predict(self, rows: NDArray[np.float32]) -> NDArray[Any]:
        """Returns the model's answer: class probabilities `(n_rows, n_classes)` or values `(n_rows,)`."""

    def export(self, directory: Path, lineage: Lineage) -> None:
        """Writes a bundle of the model into the empty `directory` and checks that both answer alike.

        Raises:
            deploy.bundle.BundleError: the bundle does not answer as the trained model does.
        """


Resource = Literal["rounds", "fit"]


def resource_of(trainable: type[Trainable]) -> Resource:
    """Returns what a step of this class spends: a round of many, or the whole fit."""
    return "fit" if getattr(trainable, "resource", "rounds") == "fit" else "rounds"

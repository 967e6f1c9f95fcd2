"""Real but cheap trainables for tests and benchmarks: no data, no torch, no scikit-learn."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Lineage
from orchestrator.domain.errors import BundleError
from trainables.contract import Context


class Trivial:
    """The cheapest trainable there can be: what is left is the program's own cost of a trial."""

    defaults: ClassVar[Mapping[str, Any]] = {"x": 0.0}

    def build(self, params: Mapping[str, Any], data: Any, context: Context) -> None:
        """Keeps the loss of the configuration: its `x`, if it has one."""
        self.loss = float(params.get("x", 0.0))
        self.steps = 0

    def step(self) -> Mapping[str, float]:
        """Counts, and returns the same loss each time."""
        self.steps += 1
        return {"loss": self.loss}

    def save(self, directory: Path) -> None:
        """Writes the number of steps."""
        (directory / "state.json").write_text(json.dumps({"steps": self.steps}))

    def load(self, directory: Path) -> None:
        """Reads the number of steps."""
        self.steps = int(json.loads((directory / "state.json").read_text())["steps"])

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float64]:
        """Returns the loss for each row: `(n_rows,)`."""
        return np.full(len(rows), self.loss)

    def export(self, directory: Path, lineage: Lineage) -> NoReturn:
        """Refuses.

        Raises:
            BundleError: always; a function of the configuration has nothing to serve.
        """
        raise BundleError(
            f"{type(self).__name__} has no model that could be served; take a trainable with one, "
            "or leave `serve` out of the study"
        )


class Quadratic(Trivial):
    """A bowl with its bottom at x = 1, y = -2, seen through an error that falls as 1 / step.

    After step i the loss is (x - 1)² + (y + 2)² + 1 / i, so that the order of two configurations is the same at every
    step and the best value that can be reached is known.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"x": 0.0, "y": 0.0}

    def build(self, params: Mapping[str, Any], data: Any, context: Context) -> None:
        """Keeps the height of the bowl at the configuration; a parameter that is left out has its default."""
        point = {**self.defaults, **params}
        self.height = (float(point["x"]) - 1.0) ** 2 + (float(point["y"]) + 2.0) ** 2
        self.loss = float("inf")
        self.steps = 0

    def step(self) -> Mapping[str, float]:
        """Goes one step down."""
        self.steps += 1
        self.loss = self.height + 1.0 / self.steps
        return {"loss": self.loss}

    def load(self, directory: Path) -> None:
        """Reads the number of steps, which fixes the loss."""
        super().load(directory)
        self.loss = self.height + 1.0 / self.steps if self.steps else float("inf")

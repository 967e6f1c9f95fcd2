"""Where a model came from: enough to find its trial, and to train it again."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.domain.errors import BundleError


@dataclass(frozen=True, slots=True)
class Lineage:
    """The way back from a model to the study, trial, data and software that made it.

    `value` is what the objective `metric` was when the model was exported; `created` is an ISO 8601 time, given by
    the caller; `versions` maps a package to the version that trained the model.
    """

    study: str
    trial: int
    step: int
    params: Mapping[str, Any] = field(default_factory=dict)
    value: float | None = None
    metric: str = ""
    data_sha256: str = ""
    seed: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data; a value that is not finite becomes None, because JSON has no word for it."""
        finite = self.value is not None and math.isfinite(self.value)
        return {
            "study": self.study,
            "trial": self.trial,
            "step": self.step,
            "params": dict(self.params),
            "value": self.value if finite else None,
            "metric": self.metric,
            "data_sha256": self.data_sha256,
            "seed": self.seed,
            "versions": dict(self.versions),
            "created": self.created,
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Lineage":
        """Returns the lineage that `to_dict` wrote.

        Raises:
            BundleError: when study, trial or step are missing or of the wrong kind.
        """
        try:
            value = given.get("value")
            return cls(
                study=str(given["study"]),
                trial=int(given["trial"]),
                step=int(given["step"]),
                params=dict(given.get("params", {})),
                value=None if value is None else float(value),
                metric=str(given.get("metric", "")),
                data_sha256=str(given.get("data_sha256", "")),
                seed=int(given.get("seed", 0)),
                versions={str(name): str(version) for name, version in given.get("versions", {}).items()},
                created=str(given.get("created", "")),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise BundleError(
                f"This lineage cannot be read ({error!r}): it needs study, trial and step. Export the model again."
            ) from error

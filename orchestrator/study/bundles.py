"""The bundles that a study orders: what each is for, and where it stands on its way to the endpoint."""

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.domain.trials import CheckpointRef

CHALLENGER = "challenger"
REFERENCE = "reference"
"""What a bundle is made for: to be promoted, or to be measured beside the champion."""


class BundleState(StrEnum):
    """Where a bundle stands on its way to the endpoint."""

    EXPORTING = "exporting"
    EXPORTED = "exported"
    PROMOTED = "promoted"
    REJECTED = "rejected"


@dataclass(slots=True)
class BundleRecord:
    """A bundle that was ordered."""

    bundle: str
    trial: int
    checkpoint: CheckpointRef
    value: float | None
    purpose: str
    worker: str
    state: BundleState = BundleState.EXPORTING
    uri: str = ""
    version: str = ""
    reason: str = ""
    at: float = 0.0

    @property
    def step(self) -> int:
        """The step of its checkpoint."""
        return self.checkpoint.step

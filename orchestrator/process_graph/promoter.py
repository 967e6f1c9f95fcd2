"""Promotion: the bundle that the study chose goes to the endpoint, and the endpoint's word back into the study."""

from collections.abc import Mapping
from typing import Any

import ray

from deploy import endpoint_handle
from orchestrator.domain.errors import BundleError, EndpointError


class Promoter:
    """Brings one challenger at a time to the endpoint. Asking twice is safe on both sides."""

    def __init__(self, study: Any) -> None:
        self._study = study

    def promote(self, endpoint: str, challenger: Mapping[str, Any]) -> None:
        """Makes the endpoint answer with the challenger and records it; a bundle that it refuses is rejected."""
        why = f"value {challenger['value']} at step {challenger['step']} of trial {challenger['trial']}"
        try:
            answer = endpoint_handle(endpoint).promote(challenger["uri"], who="study", why=why)
        except BundleError as error:
            self.refuse(challenger, str(error))
            return
        except EndpointError:
            return  # it is away for a moment: the study goes on offering the challenger
        ray.get(self._study.promoted.remote(challenger["bundle"], str(answer["version"])))

    def refuse(self, challenger: Mapping[str, Any], reason: str) -> None:
        """Records that the challenger will not be the champion."""
        ray.get(self._study.rejected.remote(challenger["bundle"], reason))

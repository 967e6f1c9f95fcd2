"""What a study whose trials all failed alike looks like from Python."""

from orchestrator.api.driving import Outcome
from orchestrator.domain.errors import OrchestratorError


class TrialsFailed(OrchestratorError):
    """The first trials all failed alike, so the study was ended before it spent more."""


def raise_if_failing(outcome: Outcome) -> None:
    """Raises TrialsFailed, with the user's traceback, where that is why the study ended."""
    if outcome.status["reason"] != "failing" or outcome.failure is None:
        return
    failure = outcome.failure
    raise TrialsFailed(
        f"the first trials all failed alike: {failure['message']}\n"
        f"trial {failure['trial']} had {failure['params']}\n{failure['traceback']}"
    )

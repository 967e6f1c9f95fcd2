"""Orders as a study would give them."""

from orchestrator.domain.exchange import Run


def order(trial=0, until=3, checkpoint=None, reported=0, attempt=0, **params):
    return Run(trial, attempt, {"x": 1.0, **params}, 7 + trial, until, checkpoint, reported)

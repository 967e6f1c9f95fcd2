"""The promotion rule: which checkpoint becomes a challenger, and when.

One challenger at a time: a checkpoint is exported only if it beats the champion by the margin, and the next one only
after that one was promoted or rejected. The first champion must beat the trivial baseline. At the end of a study the
default configuration is exported as well, as a *reference* that is measured beside the champion and never served.
"""

from dataclasses import dataclass

from orchestrator.domain.trials import CheckpointRef
from orchestrator.study.bundles import CHALLENGER, REFERENCE, BundleState
from orchestrator.study.state import Phase, StudyState
from orchestrator.study.trial import Trial


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint that should be exported next."""

    trial: Trial
    checkpoint: CheckpointRef
    purpose: str
    bundle: str


def next_export(state: StudyState) -> Candidate | None:
    """Returns the checkpoint that should become a bundle now, or None."""
    if state.specification.serve is None or state.open_bundle() is not None:
        return None
    challenger = _challenger(state)
    if challenger is not None:
        return challenger
    return _reference(state) if state.phase is Phase.ENDING else None


def _challenger(state: StudyState) -> Candidate | None:
    """Returns the best that was not tried yet; behind one that does not beat the champion nobody does."""
    first = state.ranking.first
    if first is None:
        return None
    best = state.trials[first[1]]
    if not _beats_champion(state, best):
        return None
    assert best.best_checkpoint is not None
    return _candidate(best, best.best_checkpoint, CHALLENGER)


def _reference(state: StudyState) -> Candidate | None:
    default = next((trial for trial in state.trials[:1] if trial.origin == "default"), None)
    if default is None or default.best_checkpoint is None:
        return None
    candidate = _candidate(default, default.best_checkpoint, REFERENCE)
    return None if candidate.bundle in state.bundles else candidate


def _candidate(trial: Trial, checkpoint: CheckpointRef, purpose: str) -> Candidate:
    return Candidate(trial, checkpoint, purpose, bundle_name(trial.number, checkpoint.step, purpose))


def bundle_name(trial: int, step: int, purpose: str) -> str:
    """Returns the bundle's name within its study: one per trial, step and purpose."""
    return f"trial{trial:05d}-step{step:05d}" + ("" if purpose == CHALLENGER else f"-{purpose}")


def _beats_champion(state: StudyState, trial: Trial) -> bool:
    serve, objective = state.specification.serve, state.specification.objective
    assert serve is not None
    if trial.value is None:
        return False
    if state.champion is None:
        return objective.is_better(trial.value, state.baseline)
    return objective.is_better(trial.value, state.champion.value, serve.margin)


def awaiting_promotion(state: StudyState) -> str | None:
    """Returns the bundle that is exported and should be put before the endpoint's gate now."""
    record = state.open_bundle()
    return record.bundle if record is not None and record.state is BundleState.EXPORTED else None

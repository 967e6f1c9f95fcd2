"""A study as plain data for people and programs: what `status`, `show` and the live view print."""

from collections.abc import Mapping
from typing import Any

from orchestrator.domain.specification import UNBOUNDED
from orchestrator.domain.trials import TrialState
from orchestrator.study.state import StudyState
from orchestrator.study.trial import Trial


def status(state: StudyState, now: float | None = None) -> dict[str, Any]:
    """Returns where the study stands; with `now` as of now, else as of its last event. Costs no look at all trials."""
    specification = state.specification
    used = state.seconds_used(now)
    budget = specification.budget
    return {
        "study": specification.study,
        "metric": specification.objective.metric,
        "goal": "maximize" if specification.objective.maximize else "minimize",
        "phase": str(state.phase),
        "reason": state.reason,
        "execution": specification.execution,
        "epoch": state.epoch,
        "address": state.address,
        "trials": len(state.trials),
        "states": {str(name): state.counts[name] for name in TrialState},
        "budget": {"trials": budget.trials, "seconds": budget.seconds},
        "widened": [{"at": held.at, "first_trial": held.first_trial} for held in state.spaces[1:]],
        "seconds": round(used, 3),
        "seconds_left": None if budget.seconds is None else round(max(0.0, budget.seconds - used), 3),
        "workers": sum(bool(trials) for trials in state.held.values()),
        "rungs": state.scheduler.rungs(),
        "baseline": state.baseline,
        "default": _default(state),
        "best": None if state.best is None else trial_summary(state.best),
        "champion": _champion(state),
        "promotions": state.promotions,
        "failed_trials": state.counts[TrialState.FAILED] + state.counts[TrialState.ABANDONED],
    }


def _default(state: StudyState) -> dict[str, Any] | None:
    first = state.trials[0] if state.trials else None
    return trial_summary(first) if first is not None and first.origin == "default" else None


def _champion(state: StudyState) -> dict[str, Any] | None:
    champion = state.champion
    if champion is None:
        return None
    return {
        "bundle": champion.bundle,
        "version": champion.version,
        "trial": champion.trial,
        "step": champion.step,
        "value": champion.value,
        "uri": champion.uri,
    }


def trial_summary(trial: Trial) -> dict[str, Any]:
    """Returns one trial in a line's worth of data."""
    return {
        "trial": trial.number,
        "state": str(trial.state),
        "origin": trial.origin,
        "value": trial.value,
        "step": trial.value_step or trial.last_step,
        "last_step": trial.last_step,
        "attempt": trial.attempt,
        "params": dict(trial.params),
    }


def trial_details(trial: Trial) -> dict[str, Any]:
    """Returns everything about one trial."""
    return trial_summary(trial) | {
        "worker": trial.worker,
        "reports": [{"step": step, **metrics} for step, metrics in trial.reports],
        "checkpoint": trial.checkpoint.to_dict() if trial.checkpoint else None,
        "failures": [failure.to_dict() for failure in trial.failures],
        "created_at": trial.created_at,
        "ended_at": trial.ended_at,
    }


def savings(state: StudyState) -> Mapping[str, float] | None:
    """Returns the resource that was spent, and what the same trials would have cost without early stopping."""
    full = state.specification.scheduler.max
    if full == UNBOUNDED:
        return None
    spent = sum(trial.last_step for trial in state.trials)
    return {"spent": spent, "full": full * len(state.trials)}


def first_failure(state: StudyState) -> dict[str, Any] | None:
    """Returns the first failure that was not put right by another attempt, with its trial; else the first at all."""
    failed = [trial for trial in state.trials if trial.failures]
    if not failed:
        return None
    worst = min(failed, key=lambda trial: (trial.state is not TrialState.ABANDONED, trial.number))
    return {"trial": worst.number, "params": dict(worst.params), **worst.failures[0].to_dict()}

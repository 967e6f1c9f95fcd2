"""How a study stands, in words: what the live view and the plain lines both show."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.cli.printing import duration, number
from orchestrator.domain.specification import UNBOUNDED, StudySpecification
from orchestrator.schedulers import rung_levels

SHOWN_STATES = ("running", "paused", "waiting", "complete", "stopped", "failed", "abandoned")


@dataclass(frozen=True, slots=True)
class TrafficCount:
    """How requests to the endpoint went."""

    requests: int = 0
    failed: int = 0
    retried: int = 0
    versions: Mapping[str, int] = field(default_factory=dict)  # version -> answers
    errors: tuple[str, ...] = ()  # the first ones


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that a view shows, as of now."""

    status: Mapping[str, Any]
    runner: Mapping[str, Any] | None = None
    traffic: TrafficCount | None = None
    serves: bool = False

    @property
    def fraction(self) -> float | None:
        """How much of the budget is spent: of the limit that is nearest; None where there is no limit."""
        budget = self.status["budget"]
        parts = [
            self.status["trials"] / budget["trials"] if budget["trials"] else None,
            self.status["seconds"] / budget["seconds"] if budget["seconds"] else None,
        ]
        known = [part for part in parts if part is not None]
        return min(1.0, max(known)) if known else None


def way(specification: StudySpecification, runner: Mapping[str, Any] | None) -> str:
    """Returns which way the trials are run; without a runner that is inline."""
    if runner is None:
        return execution_line(specification, "inline", 1)
    return execution_line(specification, runner["execution"], runner["slots"])


def execution_line(specification: StudySpecification, execution: str, workers: int) -> str:
    """Returns which way the trials are run.

    Args:
        specification: what was asked for.
        execution: "pooled", "tune" or "inline".
        workers: how many trials run side by side.
    """
    ways = {
        "pooled": f"Ray Tune: {_plural(workers, 'worker')}",
        "tune": f"Ray Tune, one slot per trial: {workers} side by side",
        "inline": "inline, without Ray: one trial at a time",
    }
    budget, scheduler = specification.budget, specification.scheduler
    parts = [ways[execution]]
    if budget.trials is not None:
        parts.append(_plural(budget.trials, "trial"))
    if budget.seconds is not None:
        parts.append(f"at most {duration(budget.seconds)}")
    if scheduler.kind == "asha" and scheduler.max != UNBOUNDED:
        stops = ", stopping" if scheduler.mode == "stop" else ""
        parts.append(f"rungs {rungs(scheduler.min, scheduler.max, scheduler.eta)}{stops}")
    return ", ".join(parts)


def rungs(low: int, high: int, eta: int) -> str:
    """Returns the rungs' resource levels in a word.

    >>> rungs(1, 27, 3)
    '1·3·9·27'
    """
    return "·".join(str(level) for level in rung_levels(low, high, eta))


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


def rows(moment: Moment) -> list[tuple[str, str]]:
    """Returns labelled lines about all that is known."""
    status = moment.status
    lines = [("trials", trials(status)), ("rungs", _rungs_reached(status)), ("best", best(status))]
    if widened := status.get("widened"):
        lines.append(("space", f"wider from trial {widened[-1]['first_trial']} on"))
    lines.append(("workers", workers(moment)))
    if moment.serves and moment.runner is not None:
        lines.append(("endpoint", endpoint(moment)))
        lines.append(("challenger", str(moment.runner.get("challenger", ""))))
    if moment.traffic is not None:
        lines.append(("requests", requests(moment.traffic)))
    lines.append(("storage", storage_problem(moment.runner)))
    lines.append(("time", _time(status)))
    return [(label, text) for label, text in lines if text]


def trials(status: Mapping[str, Any]) -> str:
    """Returns how many trials there are, by state."""
    budget = status["budget"]["trials"]
    counted = [f"{status['states'][name]} {name}" for name in SHOWN_STATES if status["states"].get(name)]
    return (
        f"{status['trials']}" + (f" of {budget}" if budget else "") + (f"  ({', '.join(counted)})" if counted else "")
    )


def _rungs_reached(status: Mapping[str, Any]) -> str:
    reached = [f"step {rung['resource']}: {rung['trials']}" for rung in status["rungs"] if rung["trials"]]
    return "   ".join(reached)


def best(status: Mapping[str, Any]) -> str:
    """Returns the best value, beside the default configuration's and the trivial baseline."""
    found, default = status["best"], status["default"]
    if found is None or found["value"] is None:
        text = f"{status['metric']} –"
    else:
        text = f"{status['metric']} {number(found['value'])} (trial {found['trial']}, step {found['step']})"
    beside = [("default", default["value"] if default else None), ("baseline", status["baseline"])]
    return "   ".join([text, *(f"{name} {number(value)}" for name, value in beside if value is not None)])


def workers(moment: Moment) -> str:
    """Returns how many workers have trials, of how many."""
    busy = moment.status["workers"]
    return f"{busy} busy" + (f" of {moment.runner['slots']}" if moment.runner else "")


def endpoint(moment: Moment) -> str:
    """Returns which version answers, and where; or why none does."""
    runner, champion = moment.runner, moment.status["champion"]
    if runner is None:
        return ""
    place = runner["endpoint"]
    if place is None:
        return f"there is none: {runner['endpoint_error']}" if runner["endpoint_error"] else "starting…"
    moved = "" if place["port"] == place["asked_port"] else f" (port {place['asked_port']} is taken)"
    behind = f"{place['url']}{moved} behind {place['ingress']}"
    if champion is None:
        return f"{behind}, no version yet"
    return f"{behind}, version {champion['version']} (trial {champion['trial']}, step {champion['step']})"


def storage_problem(runner: Mapping[str, Any] | None) -> str:
    """Returns why the study waits, or waited a moment ago, for its storage; empty where it does not."""
    problem = runner.get("storage_error") if runner is not None else ""
    return f"waited for: {problem}" if problem else ""


def requests(count: TrafficCount) -> str:
    """Returns how the requests went."""
    retried = f", {count.retried} retried" if count.retried else ""
    versions = f", by {_plural(len(count.versions), 'version')}" if count.versions else ""
    return f"{count.requests} sent{versions}, {count.failed} failed{retried}"


def _time(status: Mapping[str, Any]) -> str:
    left = status["seconds_left"]
    return duration(status["seconds"]) + (f", at most {duration(left)} left" if left is not None else "")

"""What came of a study: `summary.json` for programs, a block of text for people."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.cli.pasting import pasted
from orchestrator.cli.printing import block, duration, number, parameters
from orchestrator.cli.view import TrafficCount, requests
from orchestrator.domain.errors import StorageError
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import AnyStorage
from orchestrator.study import Layout

REASONS = {
    "finished": "all trials done",
    "exhausted": "all of its grid was tried",
    "time": "its time is over",
    "stopped": "stopped by hand",
    "failing": "its first trials all failed alike",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended; everything that the summary is made of, as plain data."""

    specification: StudySpecification
    storage: AnyStorage
    status: Mapping[str, Any]
    savings: Mapping[str, float] | None = None
    scores: Mapping[str, Any] | None = None  # `TestScores.to_dict`
    traffic: TrafficCount | None = None
    seconds: float = 0.0


def summary(ending: Ending) -> dict[str, Any]:
    """Returns the summary as plain data."""
    status, scores, traffic = ending.status, ending.scores or {}, ending.traffic
    found, default = status["best"], status["default"]
    is_accuracy = scores.get("metric") == "accuracy"
    return {
        "study": status["study"],
        "trials": status["trials"],
        "metric": status["metric"],
        "best_value": found["value"] if found else None,
        "best_trial": found["trial"] if found else None,
        "best_params": found["params"] if found else None,
        "default_value": default["value"] if default else None,
        "baseline_value": status["baseline"],
        "test_metric": scores.get("metric"),
        "test_value": scores.get("champion"),
        "test_default": scores.get("default"),
        "test_baseline": scores.get("baseline"),
        "test_accuracy": scores.get("champion") if is_accuracy else None,
        "default_accuracy": scores.get("default") if is_accuracy else None,
        "promotions": status["promotions"],
        "requests": traffic.requests if traffic else 0,
        "failed_requests": traffic.failed if traffic else 0,
        "seconds": round(ending.seconds, 3),  # of this command
        "study_seconds": status["seconds"],  # over all of the study's lives
        "reason": status["reason"],
        "failed_trials": status["failed_trials"],
        "savings": ending.savings,
        "endpoint_problem": scores.get("problem") or None,
        "curl": scores.get("curl") or None,
    }


def write_summary(data: Mapping[str, Any], layout: Layout) -> None:
    """Writes `summary.json`, at once or not at all."""
    layout.root.write(layout.SUMMARY, (json.dumps(data, indent=2) + "\n").encode())


def read_summary(layout: Layout) -> dict[str, Any] | None:
    """Returns the summary that an earlier run wrote; None where there is none that can be read."""
    try:
        data = json.loads(layout.root.read(layout.SUMMARY))
    except (StorageError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def closing_block(
    data: Mapping[str, Any], specification: StudySpecification, storage: AnyStorage, *, stays: bool = False
) -> str:
    """Returns the summary for people, with what to do next; the endpoint answers still where it `stays`."""
    head = f"study '{data['study']}': {REASONS.get(data['reason'], data['reason'])}, {duration(data['seconds'])}"
    return f"{head}\n{block([(label, text) for label, text in _facts(data, specification, storage) if text])}" + (
        _next_step(data, specification, storage, stays)
    )


def _facts(data: Mapping[str, Any], specification: StudySpecification, storage: AnyStorage) -> list[tuple[str, str]]:
    value = {"value": data["best_value"], "trial": data["best_trial"]}
    beside = [("default", data["default_value"]), ("baseline", data["baseline_value"])]
    shown = "   ".join(f"{name} {number(given)}" for name, given in beside if given is not None)
    failed = f", {data['failed_trials']} failed" if data["failed_trials"] else ""
    return [
        ("best", f"{data['metric']} {number(value['value'])} (trial {value['trial']})   {shown}"),
        ("test", _tested(data)),
        ("trials", f"{data['trials']}{failed}"),
        ("saved", _saved(data["savings"])),
        ("parameters", parameters(data["best_params"] or {})),
        ("endpoint", _served(data, specification)),
        ("results", str(Layout(storage, specification.study).root)),
    ]


def _tested(data: Mapping[str, Any]) -> str:
    if data["test_value"] is None:
        return ""
    text = f"{data['test_metric']} {data['test_value']:.4f} through HTTP"
    beside = [("default", data["test_default"]), ("baseline", data["test_baseline"])]
    return "   ".join([text, *(f"{name} {value:.4f}" for name, value in beside if value is not None)])


def _saved(savings: Mapping[str, float] | None) -> str:
    if savings is None or not savings["full"]:
        return ""
    share = 1 - savings["spent"] / savings["full"]
    return f"{share:.0%} by early stopping: {savings['spent']:.0f} steps instead of {savings['full']:.0f}"


def _served(data: Mapping[str, Any], specification: StudySpecification) -> str:
    if specification.serve is None:
        return ""
    promoted = f"{data['promotions']} promotion" + ("" if data["promotions"] == 1 else "s")
    asked = requests(TrafficCount(data["requests"], data["failed_requests"])) if data["requests"] else ""
    problem = f"not measured: {data['endpoint_problem']}" if data["endpoint_problem"] else ""
    return ", ".join(part for part in (promoted, asked, problem) if part)


def _next_step(data: Mapping[str, Any], specification: StudySpecification, storage: AnyStorage, stays: bool) -> str:
    if specification.serve is None or not data["curl"]:
        return ""
    if stays:
        return f"\n\nthe endpoint goes on; ask it:\n\n{data['curl']}"
    command = pasted("serve", specification.serve.name, storage=storage)
    return f"\n\nbring the endpoint back and ask it:\n\n{command}\n{data['curl']}"

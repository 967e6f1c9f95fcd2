"""What people are shown of user code that failed: the first traceback, whole, and what to do."""

from collections.abc import Mapping
from typing import Any

from orchestrator.cli.printing import parameters


def failure_text(failure: Mapping[str, Any]) -> str:
    """Returns a failure with its trial's parameters and the traceback at the user's line."""
    head = f"trial {failure['trial']} failed ({failure['cause']}): {failure['message']}"
    lines = [head, f"  with {parameters(failure['params'])}"]
    return "\n".join([*lines, failure["traceback"].rstrip()] if failure["traceback"] else lines)


def failing_text(study: str, failure: Mapping[str, Any], command: str) -> str:
    """Returns why a study gave up, and what to do about it."""
    return (
        f"{failure_text(failure)}\n"
        f"error: the first trials of study '{study}' all failed alike, so it was ended before it spent more. Mend the "
        f"cause, try one trial with `--debug`, then begin anew:\n{command} --fresh"
    )

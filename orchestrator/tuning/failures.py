"""From an exception of user code to a `Failure`: the traceback at the user's line, and a signature."""

import traceback
from pathlib import Path
from types import TracebackType

from orchestrator.domain.trials import Failure

_OURS = Path(__file__).resolve().parent
"""Frames of this room stand above the user's code and say nothing about it."""


def failure_of(error: BaseException) -> Failure:
    """Returns why a trial failed; failures of one kind at one line have one signature."""
    tail = _users_part(error.__traceback__)
    text = "".join(traceback.format_exception(type(error), error, tail))
    frames = traceback.extract_tb(tail)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    cause = "memory" if isinstance(error, MemoryError) else "error"
    return Failure(cause, f"{type(error).__name__}: {error}", text, f"{type(error).__name__} at {place}")


def _users_part(trace: TracebackType | None) -> TracebackType | None:
    whole = trace
    while trace is not None and _OURS in Path(trace.tb_frame.f_code.co_filename).parents:
        trace = trace.tb_next
    return trace or whole

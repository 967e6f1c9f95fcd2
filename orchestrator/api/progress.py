"""A line of progress for people who run a study from Python in a terminal."""

import sys
from collections.abc import Mapping
from typing import Any

from orchestrator.api.driving import Observer, Silence

WIDTH = 100


class ProgressLine:
    """Writes one line to the terminal again and again."""

    def say(self, line: str) -> None:
        """Shows the line."""
        print(f"\r{line:<{WIDTH}.{WIDTH}}", end="", file=sys.stderr, flush=True)

    def look(self, status: Mapping[str, Any], runner: Mapping[str, Any] | None) -> None:
        """Shows how many trials there are, and the best value."""
        best, budget = status["best"], status["budget"]["trials"]
        of = f"/{budget}" if budget else ""
        value = "" if best is None or best["value"] is None else f", best {status['metric']} {best['value']:.6g}"
        self.say(f"{status['study']}: {status['trials']}{of} trials, {status['seconds']:.0f} s{value}")
        if status["phase"] == "ended":
            print(file=sys.stderr)


def line_for_people() -> Observer:
    """Returns a progress line where somebody sees it, else silence."""
    return ProgressLine() if sys.stderr.isatty() else Silence()

"""Reads the sections of a study file: plain data into checked values; an error says what was given and is allowed."""

import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from orchestrator.domain.errors import InvalidSpecification, did_you_mean

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def refusal(where: str, given: Any, allowed: str) -> InvalidSpecification:
    """Returns the error that says what was given, and what is allowed."""
    return InvalidSpecification(f"{where}: given {given!r}; {allowed}")


def section_of(where: str, given: Any, known: Iterable[str]) -> Mapping[str, Any]:
    """Returns the section as a mapping that holds known keys only."""
    known = tuple(known)
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise refusal(where, given, f"it takes {{{', '.join(known)}}}")
    for key in given:
        if key not in known:
            raise InvalidSpecification(
                f"{where}: unknown key '{key}'.{did_you_mean(str(key), known)} Known: {', '.join(known)}"
            )
    return given


def choice_of(where: str, given: Any, allowed: tuple[str, ...]) -> str:
    """Returns the one of `allowed` that was given."""
    if given not in allowed:
        raise InvalidSpecification(
            f"{where}: given {given!r}; it is one of {', '.join(allowed)}.{did_you_mean(str(given), allowed)}"
        )
    return str(given)


def number_of(where: str, given: Any, low: float, high: float | None = None, *, whole: bool = False) -> Any:
    """Returns a number within [low, high]; text such as "1e-3" too, because YAML 1.1 reads that as text."""
    number = given
    if isinstance(given, str):
        with suppress(ValueError):
            number = int(given) if whole else float(given)
    kinds = int if whole else int | float
    top = math.inf if high is None else high
    if isinstance(number, bool) or not isinstance(number, kinds) or not low <= number <= top or number == math.inf:
        kind = "a whole number" if whole else "a number"
        raise refusal(where, given, f"it takes {kind} of at least {low}" + (f" and at most {high}" if high else ""))
    return number


def parse_seconds(where: str, given: Any) -> float:
    """Returns seconds from a number or from text such as "90s", "10m" or "1.5h"."""
    if isinstance(given, str):
        match = re.fullmatch(r"\s*([0-9.]+)\s*(ms|s|m|h|d)?\s*", given)
        with suppress(ValueError):
            given = float(match[1]) * SECONDS[match[2] or "s"] if match else given
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < float("inf"):
        raise refusal(where, given, 'it takes a time above 0, such as 90, "90s", "10m" or "1.5h"')
    return float(given)


def name_of(where: str, given: Any) -> str:
    """Returns a name that may stand in paths and addresses."""
    if not isinstance(given, str) or not NAME.fullmatch(given):
        raise refusal(where, given, "it takes up to 64 letters, digits, dots, dashes and underscores")
    return given


def text_of(where: str, given: Any) -> str:
    """Returns text."""
    if not isinstance(given, str):
        raise refusal(where, given, "it takes text")
    return given

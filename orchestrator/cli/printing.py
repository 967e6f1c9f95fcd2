"""What commands write: JSON for programs; numbers, rows and tables for people."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import click

NOTHING = "–"


def print_json(data: Any) -> None:
    """Writes plain data as JSON; a number that is not finite becomes null."""
    click.echo(json.dumps(_finite(data), indent=2, default=str))


def _finite(data: Any) -> Any:
    if isinstance(data, float) and not math.isfinite(data):
        return None
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return data


def number(value: Any) -> str:
    """Returns a number in as few digits as tell it; a dash for none.

    >>> number(0.98607242), number(96), number(None), number(1.5e-05)
    ('0.9861', '96', '–', '1.5e-05')
    """
    if value is None:
        return NOTHING
    if isinstance(value, bool) or not isinstance(value, float):
        return str(value)
    return f"{value:.4g}"


def parameters(params: Mapping[str, Any]) -> str:
    """Returns a configuration in a line."""
    return "  ".join(f"{name}={number(value)}" for name, value in params.items())


def duration(seconds: float | None) -> str:
    """Returns a time as people say it.

    >>> duration(7.2), duration(151), duration(7260)
    ('7 s', '2 min 31 s', '2 h 1 min')
    """
    if seconds is None:
        return NOTHING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def block(rows: Sequence[tuple[str, str]]) -> str:
    """Returns labelled lines, the labels in one column."""
    width = max((len(label) for label, _ in rows), default=0)
    return "\n".join(f"  {label:<{width}}  {text}".rstrip() for label, text in rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table of text; columns are as wide as what is in them."""
    widths = [max(len(line[i]) for line in (head, *rows)) for i in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in (head, *rows)]
    return "\n".join(line.rstrip() for line in lines)

"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from orchestrator.domain.places import local_path

F = TypeVar("F", bound=Callable[..., Any])

STORAGE_VARIABLE = "ORCHESTRATOR_STORAGE"
DEFAULT_STORAGE = "./runs"
DEFAULT_PORT = 8000  # of an endpoint that had none before


def storage_option(command: F) -> F:
    """Adds `--storage`: the directory that holds studies and endpoints, as an absolute path."""
    return click.option(
        "--storage",
        default=DEFAULT_STORAGE,
        envvar=STORAGE_VARIABLE,
        show_default=True,
        show_envvar=True,
        callback=lambda ctx, parameter, value: Path(local_path(value)),
        help="Where studies and endpoints are kept.",
    )(command)


def json_option(command: F) -> F:
    """Adds `--json`: data for programs instead of text for people."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)

"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from orchestrator.journal import Storage

F = TypeVar("F", bound=Callable[..., Any])

STORAGE_VARIABLE = "ORCHESTRATOR_STORAGE"
JOB_SERVER_VARIABLE = "RAY_API_SERVER_ADDRESS"  # Ray's own name for it
DEFAULT_STORAGE = "./runs"


def storage_option(command: F) -> F:
    """Adds `--storage`: what holds studies and endpoints, as a `Storage`."""
    return click.option(
        "--storage",
        default=DEFAULT_STORAGE,
        envvar=STORAGE_VARIABLE,
        show_default=True,
        show_envvar=True,
        callback=lambda ctx, parameter, value: Storage.of(value),
        help="Where studies and endpoints are kept: a directory, or an address such as s3://BUCKET/PREFIX.",
    )(command)


def job_server_options(command: F) -> F:
    """Adds `--address` of a cluster's job server, and `--token-file` for the token that guards it."""
    address = click.option(
        "--address",
        required=True,
        envvar=JOB_SERVER_VARIABLE,
        show_envvar=True,
        help="Of the cluster's job server, such as http://HOST:8265.",
    )
    return address(token_file_option(command))


def token_file_option(command: F) -> F:
    """Adds `--token-file`: the token that guards a cluster."""
    return click.option(
        "--token-file",
        type=click.Path(path_type=Path),
        help="Of the cluster; else RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token.",
    )(command)


def is_given(ctx: click.Context, name: str) -> bool:
    """Returns whether somebody gave the option, rather than its default."""
    return ctx.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)


def json_option(command: F) -> F:
    """Adds `--json`: data for programs instead of text for people."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)

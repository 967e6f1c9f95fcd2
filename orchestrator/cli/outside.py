"""Finds the endpoint that a command means: at an address with a token, for whoever is not in its cluster."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from deploy.remote import RemoteEndpoint
from deploy.tokens import read_token
from orchestrator.domain.errors import InvalidInput

F = TypeVar("F", bound=Callable[..., Any])


def endpoint_options(command: F) -> F:
    """Adds `--address` of the endpoint, and `--token-file` with a token that opens it."""
    address = click.option(
        "--address", help="Of the endpoint, such as http://HOST:8000, to ask it from outside its cluster."
    )
    token = click.option(
        "--token-file", type=click.Path(path_type=Path), help="With a token of the endpoint that has the scope admin."
    )
    return address(token(command))


def remote_endpoint(name: str, address: str, token_file: Path | None) -> RemoteEndpoint:
    """Returns the endpoint at an address.

    Raises:
        InvalidInput: no token is given.
        EndpointError: the token cannot be read, or the address is none.
    """
    if token_file is None:
        raise InvalidInput(
            f"--address {address} needs --token-file, with a token of endpoint '{name}'; where its storage is, "
            f"`orchestrator token add {name} TOKEN --scope admin --file FILE` makes one"
        )
    return RemoteEndpoint(name, address, read_token(token_file))

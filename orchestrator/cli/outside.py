"""Finds the endpoint that a command means: at an address with a token, for whoever is not in its cluster."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from deploy.access.tokens import read_token
from deploy.remote import RemoteEndpoint
from orchestrator.domain.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Outside:
    """An endpoint's address, a file with a token of it, and one with the authorities that are believed."""

    address: str
    token_file: Path | None
    authorities: Path | None

    def endpoint(self, name: str) -> RemoteEndpoint:
        """Returns the endpoint.

        Raises:
            InvalidInput: no token is given.
            EndpointError: a file cannot be read, or the address is none.
        """
        if self.token_file is None:
            raise InvalidInput(
                f"--address {self.address} needs --token-file, with a token of endpoint '{name}'; where its storage "
                f"is, `orchestrator token add {name} TOKEN --scope admin --file FILE` makes one"
            )
        return RemoteEndpoint(name, self.address, read_token(self.token_file), verify=self.authorities or True)


def outside_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds `--address` of the endpoint, `--token-file` and `--authorities`; the command gets them as `outside`.

    It is None where no address is given: then the endpoint is one of a cluster that can be reached.
    """

    @click.option("--address", help="Of the endpoint, such as http://HOST:8000, to ask it from outside its cluster.")
    @click.option(
        "--token-file", type=click.Path(path_type=Path), help="With a token of the endpoint that has the scope admin."
    )
    @click.option(
        "--authorities",
        type=click.Path(path_type=Path),
        help="PEM file with whoever vouches for the address's TLS certificate; else those that the system trusts do.",
    )
    @functools.wraps(command)
    def with_outside(
        *given: Any, address: str | None, token_file: Path | None, authorities: Path | None, **named: Any
    ) -> Any:
        outside = None if address is None else Outside(address, token_file, authorities)
        return command(*given, outside=outside, **named)

    return with_outside

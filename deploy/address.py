"""Where an endpoint is reached, and how to ask it by hand."""

import shlex
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import orjson

from deploy.access.tls import pinned
from deploy.access.tokens import read_token


@dataclass(frozen=True, slots=True)
class EndpointAddress:
    """What a client needs. `port` differs from `asked_port` when that one was taken.

    `grpc_port` is where it answers over gRPC, on the same host; None where it does not. `ingress` says in one line what
    is in front of its replicas, and why not something else. `certificate` is the file with the one that it proves
    itself with, on its own host; None for no TLS.
    """

    name: str
    url: str
    port: int
    token_file: Path
    asked_port: int
    grpc_port: int | None = None
    ingress: str = ""
    certificate: str | None = None

    @property
    def verify(self) -> bool | ssl.SSLContext:
        """What a client on the endpoint's host trusts, for httpx and `Client`."""
        return True if self.certificate is None else pinned(self.certificate)

    @property
    def grpc_target(self) -> str | None:
        """The address for a gRPC channel, `host:port`; None where it does not answer over gRPC."""
        if self.grpc_port is None:
            return None
        host = urlsplit(self.url).hostname or ""
        return f"{f'[{host}]' if ':' in host else host}:{self.grpc_port}"

    @property
    def token(self) -> str:
        """The bearer token, read from its file."""
        return read_token(self.token_file)

    def curl(self, row: Mapping[str, float] | Sequence[float]) -> str:
        """Returns a complete line for a shell on this host that asks for one row.

        The token is read from its file when the line runs, and so stays out of logs and shell histories.
        """
        given = dict(row) if isinstance(row, Mapping) else list(row)
        body = orjson.dumps({"rows": [given]}, option=orjson.OPT_SERIALIZE_NUMPY).decode()
        token = f'"Authorization: Bearer $(cat {shlex.quote(str(self.token_file))})"'
        trusted = "" if self.certificate is None else f"--cacert {shlex.quote(self.certificate)} "
        kind = "-H 'content-type: application/json'"
        return f"curl -sS {trusted}{self.url}/predict -H {token} {kind} -d {shlex.quote(body)}"

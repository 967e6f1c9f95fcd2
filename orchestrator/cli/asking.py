"""Asks an endpoint that runs on this machine; finds it by its journal, so that Ray is not needed."""

import ssl
from typing import Any

from deploy import Client
from deploy.access.tls import pinned
from deploy.access.tokens import token_of
from deploy.following import endpoint_state
from deploy.formats.sent_rows import CsvRows
from orchestrator.cli.pasting import pasted
from orchestrator.cli.rows import Row
from orchestrator.domain.errors import EndpointError
from orchestrator.journal import AnyStorage

WILDCARDS = ("0.0.0.0", "::")  # addresses to listen on, not to connect to


def reached_at(storage: AnyStorage, name: str) -> tuple[str, bool | ssl.SSLContext]:
    """Returns where the endpoint was reached last, and what a client on its host trusts.

    Raises:
        EndpointError: it never ran.
    """
    place = endpoint_state(storage, name).place
    if place is None:
        raise EndpointError(f"endpoint '{name}' never ran; `{pasted('serve', name, storage=storage)}` starts it")
    host = "127.0.0.1" if place.host in WILDCARDS else place.host
    where = f"{f'[{host}]' if ':' in host else host}:{place.port}{place.prefix.rstrip('/')}"
    return (f"http://{where}", True) if place.tls is None else (f"https://{where}", pinned(place.tls[0]))


def ask_rows(storage: AnyStorage, name: str, rows: list[Row] | CsvRows) -> dict[str, Any]:
    """Returns predictions, probabilities, and who gave them.

    Raises:
        EndpointError: the endpoint cannot be reached, or refuses the rows.
    """
    url, verify = reached_at(storage, name)
    with Client(url, token_of(storage, name), verify=verify) as client:
        answer = client.predict(rows)
    return {
        "predictions": list(answer.predictions),
        "probabilities": list(answer.probabilities),
        "version": answer.version,
        "study": answer.study,
        "trial": answer.trial,
    }

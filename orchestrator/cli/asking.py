"""Asks an endpoint that runs on this machine; finds it by its journal, so that Ray is not needed."""

import ssl
from typing import Any

from deploy import Client
from deploy.access.tls import pinned
from deploy.access.tokens import token_of
from deploy.formats.sent_rows import CsvRows
from deploy.places import journal_directory
from deploy.rollout.state import EndpointState, replay
from orchestrator.cli.pasting import pasted
from orchestrator.cli.rows import Row
from orchestrator.domain.errors import EndpointError
from orchestrator.journal import AnyStorage, read_journal

WILDCARDS = ("0.0.0.0", "::")  # addresses to listen on, not to connect to


def endpoint_state(storage: AnyStorage, name: str) -> EndpointState:
    """Returns what the endpoint's journal says; it is not disturbed."""
    return replay(read_journal(journal_directory(storage, name)))


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

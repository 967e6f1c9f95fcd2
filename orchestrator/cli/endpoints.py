"""Brings an endpoint back from its journal, in the storage's own Ray session. Importing this loads Ray."""

import time
from collections.abc import Callable
from typing import Any

from deploy import Client, EndpointAddress, share_endpoint
from deploy.access.tls import Tls
from deploy.copies import open_bundle
from deploy.following import endpoint_state
from deploy.ingress.choice import AUTO
from orchestrator.cli.measuring import typed
from orchestrator.domain.errors import EndpointError
from orchestrator.journal import AnyStorage
from orchestrator.process_graph import serving
from orchestrator.process_graph.session import keep_session, start_session

READY_SECONDS = 30.0  # for a replica to load the version that its journal names
LOOK_SECONDS = 0.1


def bring_back(
    storage: AnyStorage,
    name: str,
    port: int | None,
    say: Callable[[str], None],
    *,
    ingress: str = AUTO,
    tls: Tls | None = None,
    share: str = "",
) -> dict[str, Any]:
    """Returns where the endpoint answers, its version, and a line for curl with one real row.

    `share` is the endpoint in whose replicas it is to live, itself for its own; without one it is where it was last.
    The one that has the replicas is started where it does not run.

    Raises:
        ClusterError, EndpointError: it did not come up, and why.
    """
    state = endpoint_state(storage, name)
    say("starting Ray…")
    session = start_session(storage, reserved_cpus=serving.REPLICA_CPUS, say=lambda line: None)
    keep_session(storage, session)
    say("starting the endpoint…")
    owner = share or (state.place.shares if state.place else "") or name
    asked = port or (state.place.port if state.place else None)
    address = serving.bring_back(owner, storage, port=asked, ingress=ingress, tls=tls)
    if owner != name:
        address = share_endpoint(name, storage, owner)
    current = state.current
    if current is not None:
        _wait_until_ready(address)
    return {
        "name": name,
        "url": address.url,
        "port": address.port,
        "asked_port": address.asked_port,
        "grpc_port": address.grpc_port,
        "ingress": address.ingress,
        "share": None if owner == name else owner,
        "token_file": str(address.token_file),
        "version": None if current is None else current.number,
        "study": None if current is None else current.lineage.study,
        "trial": None if current is None else current.lineage.trial,
        "step": None if current is None else current.lineage.step,
        "curl": "" if current is None else address.curl(_example(current.uri)),
    }


def _example(uri: str) -> dict[str, Any] | list[Any]:
    """Returns one real row out of a bundle, as somebody would type it."""
    bundle = open_bundle(uri)
    return typed(bundle.sample[:1].tolist()[0], bundle.schema.columns)


def _wait_until_ready(address: EndpointAddress) -> None:
    deadline = time.monotonic() + READY_SECONDS
    with Client(address.url, address.token, verify=address.verify) as client:
        while not client.is_ready():
            if time.monotonic() > deadline:
                raise EndpointError(
                    f"endpoint '{address.name}' runs at {address.url} and has no model after {READY_SECONDS:.0f} s; "
                    "are its bundles still on the storage?"
                )
            time.sleep(LOOK_SECONDS)

"""Finds a study's endpoint at its end, and brings it up again where it is gone."""

from collections.abc import Callable

from deploy import EndpointAddress
from deploy.access.tokens import ensure_token
from orchestrator.api.driving import Outcome
from orchestrator.domain.errors import OrchestratorError
from orchestrator.domain.serving import ServeSpecification
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import Storage
from orchestrator.process_graph.serving import bring_up
from orchestrator.process_graph.session import claim_session, connect, start_session

NO_VERSION = "no model passed the gate, so nothing answers"


def reach(
    specification: StudySpecification, outcome: Outcome, address: str | None, say: Callable[[str], None]
) -> tuple[EndpointAddress | None, str]:
    """Returns where the study's endpoint answers; or None, and why it does not.

    Args:
        specification: of the study; it serves.
        outcome: of the study, which may have ended in an earlier command.
        address: of the Ray cluster; None for the storage's own session, which is started where it does not run.
        say: hears how long that takes.
    """
    serve = specification.serve
    assert serve is not None
    if outcome.runner is not None and outcome.runner["endpoint_error"]:
        return None, str(outcome.runner["endpoint_error"])
    if outcome.status["champion"] is None:
        return None, NO_VERSION
    if outcome.endpoint is not None:
        known = outcome.endpoint
        path = ensure_token(specification.storage, serve.name)
        asked_port, grpc_port = known["asked_port"], known["grpc_port"]
        where = known["name"], known["url"], known["port"], path, asked_port, grpc_port
        return EndpointAddress(*where, known["ingress"], known["certificate"]), ""
    try:
        return _bring_up(specification, serve, address, say), ""
    except OrchestratorError as error:
        return None, str(error)


def _bring_up(
    specification: StudySpecification, serve: ServeSpecification, address: str | None, say: Callable[[str], None]
) -> EndpointAddress:
    storage = Storage.of(specification.storage)
    if address is None:
        session = start_session(storage, reserved_cpus=serve.reserved_cpus, say=say)
        claim_session(storage, session, specification.study)
    else:
        connect(address)
    say("starting the endpoint…")
    return bring_up(serve, storage)

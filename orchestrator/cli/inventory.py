"""What of ours runs in a session, in words. Importing this loads Ray."""

from orchestrator.domain.errors import OrchestratorError
from orchestrator.process_graph.graph import process_graph
from orchestrator.process_graph.session import join_session
from orchestrator.process_graph.session_file import SessionFile


def inventory(session: SessionFile) -> list[str]:
    """Returns the studies and endpoints that run in the session, and the session itself; a mute one is only named."""
    itself = f"Ray at {session.address} (process {session.keeper.pid})"
    try:
        join_session(session)
    except OrchestratorError:
        return [f"{itself}, which did not answer"]
    lines = []
    for node in process_graph().nodes:
        if node.kind in ("study actor", "endpoint actor"):
            below = sum(1 for _ in node.walk()) - 1
            counted = f" with {below} more processes" if below else ""
            lines.append(f"{node.kind.removesuffix(' actor')} '{node.name}'{counted}")
    return [*lines, itself]

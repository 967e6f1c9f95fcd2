"""Reaches what runs on a storage, for commands that look at it or end it. Importing this loads Ray."""

from dataclasses import dataclass
from typing import Any

from orchestrator.journal import AnyStorage
from orchestrator.process_graph.launch import RunningStudy, find
from orchestrator.process_graph.session import connect, join_session
from orchestrator.process_graph.session_file import SessionFile
from orchestrator.study import read_study


@dataclass(frozen=True, slots=True)
class Running:
    """A study's own words, and its runner's."""

    status: dict[str, Any]
    runner: dict[str, Any]


def find_running(
    storage: AnyStorage, study: str, session: SessionFile | None, address: str | None
) -> RunningStudy | None:
    """Returns the study where its actors live: in the storage's session, or in the cluster at `address`."""
    if address is not None:
        connect(address)
    elif session is not None:
        join_session(session)
    else:
        return None
    return find(read_study(storage, study).specification, storage)


def ask_running(
    storage: AnyStorage, study: str, session: SessionFile | None, address: str | None = None
) -> Running | None:
    """Returns what the running study says; None where it does not run."""
    found = find_running(storage, study, session, address)
    return None if found is None else Running(found.status(), found.runner_status())

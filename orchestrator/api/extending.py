"""More for a study: trials, time, a wider space; whether it runs or has ended."""

import time

from orchestrator.domain.space import Space
from orchestrator.journal import AnyStorage
from orchestrator.process_graph.session_file import SessionFile, session_path
from orchestrator.study import StudyKeeper, read_study


def extend_study(
    storage: AnyStorage,
    study: str,
    *,
    trials: int | None = None,
    seconds: float | None = None,
    space: Space | None = None,
    address: str | None = None,
) -> bool:
    """Gives the study more; returns whether it runs. One that runs is told there, another in its journal.

    Args:
        storage: where it is kept.
        study: its name.
        trials: how many in all, more than it has; None leaves that as it is.
        seconds: how long in all, likewise.
        space: that holds all of the one it has, likewise.
        address: of the Ray cluster that it runs on; None for the storage's own session.

    Raises:
        UnknownStudy: there is none of that name.
        StudyBusy: a process that cannot be reached from here runs it.
        InvalidSpecification, InvalidSpace: it would not be more.
    """
    specification = read_study(storage, study).specification
    session = SessionFile.read(session_path(storage))
    if session is not None or address is not None:
        from orchestrator.process_graph.launch import find
        from orchestrator.process_graph.session import connect, join_session

        if address is not None:
            connect(address)
        elif session is not None:
            join_session(session)
        running = find(specification, storage)
        if running is not None:
            running.extend(trials, seconds, None if space is None else space.to_dict())
            return True
    keeper = StudyKeeper.open(specification, time.time, storage=storage)
    try:
        keeper.extend(trials=trials, seconds=seconds, space=space)
    finally:
        keeper.close()
    return False

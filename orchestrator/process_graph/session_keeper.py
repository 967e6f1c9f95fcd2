"""The process that holds a local Ray: `python -m orchestrator.process_graph.session_keeper SESSION_FILE CPUS`.

It writes the session's address into the file, then sleeps until it is told to go, or the file is gone (a session that
nobody can find any more would hold the machine for ever), or Ray's own processes have died. Then it ends whatever the
session started: workers outlive a dead raylet, and a proxy among them would go on answering on the endpoint's port.
When it is killed with -9 itself, Linux ends Ray's processes with it; the few that stay are in the file, and the next
start ends them.
"""

import os
import signal
import sys
import threading
from pathlib import Path

import psutil

from orchestrator.process_graph.session_file import ProcessMark, SessionFile, end_processes

LOOK_SECONDS = 1.0
VITAL = ("raylet", "gcs_server")  # without one of them there is no session


def main() -> None:
    """Starts Ray, says where it is, and holds it until SIGTERM."""
    path, cpus = Path(sys.argv[1]), float(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command line in front
    gone = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: gone.set())
    import ray

    from orchestrator.process_graph.names import NAMESPACE

    context = ray.init(
        address="local",  # whatever other cluster there is on this host, or in the environment
        num_cpus=int(cpus),
        namespace=NAMESPACE,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        logging_level="ERROR",
    )
    signal.signal(signal.SIGTERM, lambda *_: gone.set())  # Ray's own handler aborts 3 s later, amid the shutdown
    family = {ProcessMark.of(child.pid): child.name() for child in _children()}
    SessionFile(context.address_info["gcs_address"], ProcessMark.of(os.getpid()), family=tuple(family)).write(path)
    vital = [mark for mark, name in family.items() if name in VITAL]
    seen = set(family)
    while path.exists() and all(mark.find() for mark in vital) and not gone.wait(LOOK_SECONDS):
        seen |= {ProcessMark.of(child.pid) for child in _children()}
    if all(mark.find() for mark in vital):
        ray.shutdown()
    end_processes(seen)
    os._exit(0)  # with Ray dead, its own goodbye would wait for a minute


def _children() -> list[psutil.Process]:
    """Returns every process below this one that is there at the moment."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            child.create_time()
            found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


if __name__ == "__main__":
    main()

"""The process that holds a local Ray: `python -m orchestrator.process_graph.session_keeper SESSION_FILE CPUS`.

Ray's own processes die with it (on Linux even when it is killed with -9), so that one process is all there is to end.
It writes the session's address into the file, then sleeps until it is told to go, or the file is gone: a session that
nobody can find any more would hold the machine for ever.
"""

import os
import signal
import sys
import threading
from pathlib import Path

LOOK_SECONDS = 5.0


def main() -> None:
    """Starts Ray, says where it is, and holds it until SIGTERM."""
    path, cpus = Path(sys.argv[1]), float(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command line in front
    gone = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: gone.set())
    import ray

    from orchestrator.process_graph.names import NAMESPACE
    from orchestrator.process_graph.session_file import ProcessMark, SessionFile

    context = ray.init(
        num_cpus=int(cpus),
        namespace=NAMESPACE,
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        logging_level="ERROR",
    )
    signal.signal(signal.SIGTERM, lambda *_: gone.set())  # Ray's own handler aborts 3 s later, amid the shutdown
    SessionFile(context.address_info["gcs_address"], ProcessMark.of(os.getpid())).write(path)
    while path.exists() and not gone.wait(LOOK_SECONDS):
        pass
    ray.shutdown()


if __name__ == "__main__":
    main()

"""HAProxies that outlived the session they belonged to: they hold its port, and would answer there for nobody.

Linux ends a HAProxy with the process that started it; this is for what is left all the same.
"""

import os
from contextlib import suppress
from pathlib import Path

import psutil

OWNER = "ORCHESTRATOR_INGRESS_OWNER"  # of its environment, set by `haproxy_door.py`: pid and start, in clock ticks
START_FIELD = 19  # of /proc/PID/stat behind the name
END_SECONDS = 5.0


def end_orphans(directory: Path) -> list[int]:
    """Ends HAProxies with a configuration below the directory whose owner is gone; returns their pids."""
    orphans = [process for process in psutil.process_iter() if _is_orphan(process, directory)]
    for process in orphans:
        with suppress(psutil.NoSuchProcess):
            process.kill()  # psutil compares the start time: a pid that is somebody else's by now is left alone
    psutil.wait_procs(orphans, timeout=END_SECONDS)
    return [process.pid for process in orphans]


def _is_orphan(process: psutil.Process, directory: Path) -> bool:
    try:
        if process.uids().real != os.getuid():
            return False
        line = process.cmdline()
        configuration = line[line.index("-f") + 1]
        if Path(configuration).parent.parent != directory:
            return False
        owner = process.environ().get(OWNER)
        return owner is not None and not _lives(*owner.split())
    except (psutil.Error, ValueError, IndexError):
        return False


def _lives(pid: str, started: str) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[START_FIELD] == started and fields[0] != "Z"

"""What outlived its session: HAProxies, which hold its port and would answer there for nobody, and their folders.

Linux ends a HAProxy with the process that started it; this is for what is left all the same.
"""

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

import psutil

from deploy.ingress.haproxy_door import OWNER, START_FIELD

END_SECONDS = 5.0
LEFT_SECONDS = 3600.0  # without a HAProxy, after which a folder is nobody's: that of a session that starts has none yet


def end_orphans(directory: Path) -> list[int]:
    """Ends HAProxies with a configuration below the directory whose owner is gone; returns their pids."""
    orphans = [process for process in psutil.process_iter() if _is_orphan(process, directory)]
    for process in orphans:
        with suppress(psutil.NoSuchProcess):
            process.kill()  # psutil compares the start time: a pid that is somebody else's by now is left alone
    psutil.wait_procs(orphans, timeout=END_SECONDS)
    return [process.pid for process in orphans]


def remove_left_folders(directory: Path) -> list[str]:
    """Takes away the folders below the directory that have had no HAProxy for long; returns their names."""
    old: list[Path] = []
    with suppress(OSError):  # there is no directory yet, or somebody else tidies up as well
        old += [folder for folder in directory.iterdir() if time.time() - folder.stat().st_mtime > LEFT_SECONDS]
    used = {_folder(process) for process in psutil.process_iter()} if old else set()
    left = [folder for folder in old if folder not in used]
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    return [folder.name for folder in left]


def _is_orphan(process: psutil.Process, directory: Path) -> bool:
    folder = _folder(process)
    if folder is None or folder.parent != directory:
        return False
    try:
        owner = process.environ().get(OWNER)
        return owner is not None and not _lives(*owner.split())
    except (psutil.Error, ValueError):
        return False


def _folder(process: psutil.Process) -> Path | None:
    """Returns the folder of a HAProxy's configuration; None of another process, or of somebody else's."""
    try:
        if process.uids().real != os.getuid():
            return None
        line = process.cmdline()
        return Path(line[line.index("-f") + 1]).parent
    except (psutil.Error, ValueError, IndexError):
        return None


def _lives(pid: str, started: str) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return False
    return fields[START_FIELD] == started and fields[0] != "Z"

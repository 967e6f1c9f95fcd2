"""The file that says which local Ray of ours runs: its address, and the process that holds it.

A process is known by its pid *and* its start time: pids are used again. On Linux the time is counted from the start of
the host, which is named: a wall clock that is set moves the start of every process that is counted from its epoch.
"""

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from orchestrator.journal import AnyStorage, local_state

START_TOLERANCE_SECONDS = 1.0
START_FIELD = 19  # of /proc/PID/stat behind the name: clock ticks from the host's start to the process's


@dataclass(frozen=True, slots=True)
class ProcessMark:
    """One process, beyond doubt."""

    pid: int
    started: float
    boot: str = ""

    @classmethod
    def of(cls, pid: int) -> "ProcessMark":
        """Returns the mark of a running process; raises NoSuchProcess where there is none."""
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:  # it is gone, or this is no Linux
            return cls(pid, psutil.Process(pid).create_time())
        return cls(pid, int(fields[START_FIELD]) / os.sysconf("SC_CLK_TCK"), boot)

    def find(self) -> psutil.Process | None:
        """Returns the process if it still runs."""
        try:
            process, now = psutil.Process(self.pid), ProcessMark.of(self.pid)
            same = now.boot == self.boot and abs(now.started - self.started) < START_TOLERANCE_SECONDS
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True, slots=True)
class SessionFile:
    """A local Ray of ours."""

    address: str
    keeper: ProcessMark
    driver: ProcessMark | None = None  # the command that watches its study, if one does
    family: tuple[ProcessMark, ...] = ()  # Ray's own processes; some of them outlive a keeper that is killed
    stays: bool = False  # somebody asked for an endpoint that outlives the commands which run studies

    def is_there(self) -> bool:
        """Returns whether the session still runs."""
        return self.keeper.find() is not None

    def write(self, path: Path) -> None:
        """Writes the file at once or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(json.dumps(asdict(self)))
        beside.replace(path)

    @classmethod
    def read(cls, path: Path) -> "SessionFile | None":
        """Returns the session that is written down and still runs; what a dead one left is ended and removed."""
        try:
            given = json.loads(path.read_text())
            driver = given.get("driver")
            session = cls(
                given["address"],
                ProcessMark(**given["keeper"]),
                ProcessMark(**driver) if driver else None,
                tuple(ProcessMark(**mark) for mark in given["family"]),
                bool(given.get("stays", False)),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if session.keeper.find() is None:
            end_processes(session.family)
            path.unlink(missing_ok=True)
            return None
        return session


def end_processes(marks: Iterable[ProcessMark]) -> None:
    """Kills those of the processes that still run; one whose pid is somebody else's by now is left alone."""
    for mark in marks:
        process = mark.find()
        if process is not None:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def session_path(storage: AnyStorage) -> Path:
    """Returns where the session of a storage is written down, on this host."""
    return local_state(storage) / ".session.json"

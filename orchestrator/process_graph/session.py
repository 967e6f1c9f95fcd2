"""The Ray that a study runs on: a local one that we start, or a cluster that is there.

A local session belongs to a storage and outlives the command that started it: a killed driver stops nothing. It is
found again by its file, and ended by `end_session`.
"""

import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import ray

from orchestrator.domain.errors import ClusterError, StudyBusy
from orchestrator.journal import AnyStorage
from orchestrator.process_graph.names import NAMESPACE
from orchestrator.process_graph.session_file import ProcessMark, SessionFile, session_path

START_SECONDS = 120.0  # Ray needs 5–10 s; a very busy machine far more
END_SECONDS = 20.0
CONNECT_SECONDS = 20.0
LOG = ".session.log"  # beside the session's file

Say = Callable[[str], None]


def connect(address: str) -> str:
    """Connects this process to a running Ray, where it is not yet; returns the address that all of its hosts know.

    Raises:
        ClusterError: nobody answers there, or a Ray or Python of another version.
    """
    if not ray.is_initialized():
        # stdout is for data: with `log_to_driver` off Ray still prints there what dies in the cluster
        ray._private.worker._worker_logs_enabled = False
        _connect(address)
    return str(ray.get_runtime_context().gcs_address)


def _connect(address: str) -> None:
    _check_answers(address)
    try:
        ray.init(
            address=address,
            namespace=NAMESPACE,
            log_to_driver=False,
            configure_logging=False,
            logging_level="ERROR",
        )
    except Exception as error:
        if "ersion mismatch" in str(error):
            raise ClusterError(f"the cluster at {address} has other versions than this process: {error}") from error
        raise ClusterError(
            f"no Ray cluster answers at {address} ({type(error).__name__}: {error}); "
            "check the address, or leave it out to run on this machine"
        ) from error


def _check_answers(address: str) -> None:
    """Raises at once where nobody listens: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        if address in ("auto", "local"):
            return
        raise ClusterError(f"a Ray address is host:port or auto; given {address!r}")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ClusterError(
            f"no Ray cluster answers at {address} ({error.strerror or error}); "
            "check the address, or leave it out to run on this machine"
        ) from error


def start_session(storage: AnyStorage, *, reserved_cpus: float, say: Say) -> SessionFile:
    """Returns the storage's local Ray; starts it where none runs. This process is connected to it afterwards.

    Args:
        storage: the session belongs to it.
        reserved_cpus: for the replicas; they come on top of the machine's cores, so that tuning never waits for them.
        say: hears how long it takes.

    Raises:
        ClusterError: Ray did not start; its last words are in the message.
    """
    session = SessionFile.read(session_path(storage))
    if session is None:
        session = _launch(storage, reserved_cpus, say)
    join_session(session)
    return session


def join_session(session: SessionFile) -> None:
    """Connects this process to a local session, with the token that guards it."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        os.environ["RAY_AUTH_MODE"] = "token"
        ray._raylet.Config.initialize("")  # Ray read the environment when it was imported
    connect(session.address)


def claim_session(storage: AnyStorage, session: SessionFile, study: str) -> None:
    """Writes this process down as the session's driver.

    Raises:
        StudyBusy: another live process drives it.
    """
    driver = session.driver.find() if session.driver else None
    if driver is not None and driver.pid != os.getpid():
        raise StudyBusy(
            f"process {driver.pid} is running a study on {storage} (asked for: '{study}'); watch it with "
            f"`orchestrator status {study} --storage {storage}`, or end it first"
        )
    replace(session, driver=ProcessMark.of(os.getpid())).write(session_path(storage))


def keep_session(storage: AnyStorage, session: SessionFile) -> None:
    """Writes down that the session outlives whoever runs a study in it; it ends by `end_session` alone."""
    if not session.stays:
        replace(session, stays=True).write(session_path(storage))


def _launch(storage: AnyStorage, reserved_cpus: float, say: Say) -> SessionFile:
    path = session_path(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    log = path.with_name(LOG)
    cpus = (os.cpu_count() or 1) + math.ceil(reserved_cpus)
    with log.open("wb") as output:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "orchestrator.process_graph.session_keeper", str(path), str(cpus)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a closed terminal does not end it
            env=_quiet_environment(),
        )
    try:
        return _await_session(keeper, path, log, say)
    except BaseException:  # an interrupt too: nothing that we started may stay
        _end_tree(keeper.pid)
        raise


def _await_session(keeper: "subprocess.Popen[bytes]", path: Path, log: Path, say: Say) -> SessionFile:
    began = time.monotonic()
    while (session := SessionFile.read(path)) is None:
        waited = time.monotonic() - began
        if keeper.poll() is not None or waited > START_SECONDS:
            words = log.read_text(errors="replace").strip().splitlines()[-5:]
            raise ClusterError(f"Ray did not start within {waited:.0f} s: {' | '.join(words) or 'it said nothing'}")
        say(f"starting Ray… {waited:.0f} s")
        time.sleep(0.2)
    return session


def _quiet_environment() -> dict[str, str]:
    return os.environ | {
        "RAY_AUTH_MODE": "token",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_DEDUP_LOGS": "0",
        "OMP_WAIT_POLICY": "PASSIVE",
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),  # workers import what we can import
    }


def disconnect() -> None:
    """Ends this process's connection to Ray, if there is one; Ray itself goes on."""
    if ray.is_initialized():
        ray.shutdown()


def end_session(storage: AnyStorage) -> bool:
    """Ends the storage's local Ray and everything in it; returns whether there was one."""
    session = SessionFile.read(session_path(storage))
    disconnect()
    if session is None:
        return False
    keeper = session.keeper.find()
    if keeper is not None:
        family = [keeper, *keeper.children(recursive=True)]
        keeper.terminate()
        _, alive = psutil.wait_procs(family, timeout=END_SECONDS)
        for process in alive:
            process.kill()
        psutil.wait_procs(alive, timeout=5)
    session_path(storage).unlink(missing_ok=True)
    session_path(storage).with_name(LOG).unlink(missing_ok=True)
    return True


def _end_tree(pid: int) -> None:
    try:
        root = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    for process in [*root.children(recursive=True), root]:
        process.kill()

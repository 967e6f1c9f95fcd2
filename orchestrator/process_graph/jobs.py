"""Ray's job server from outside a cluster: sends a study there with its code, and hears how it goes.

A job is a command that Ray runs on the head, in a copy of the directory that was sent along. Ours only watches: the
study's own actors are detached, and go on when the job's process or this one is gone. `job_following` hears what it
writes. Every request shows the cluster's token. The protocol is Ray's REST API for jobs; its client is Ray's own.
"""

import logging
import secrets
import shlex
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from orchestrator.domain.errors import ClusterError, UnknownStudy
from orchestrator.process_graph.job_address import (
    CONNECT_SECONDS,
    TOKEN_PATH,
    TOKEN_PATH_VARIABLE,
    TOKEN_VARIABLE,
    require_answer,
)
from orchestrator.process_graph.packing import Package

ANSWER_SECONDS = 30.0  # for a request; a package of 100 MiB gets ten times as long
LOOK_SECONDS = 0.5
STARTS = "Running entrypoint for job "  # a line of Ray's own, before the command's
NOT_FOUND = 127  # how a shell ends that finds no such command
ACTIVE = ("PENDING", "RUNNING")
STUDY, STORAGE, SOURCE = "orchestrator.study", "orchestrator.storage", "orchestrator.source"  # a job's metadata


@dataclass(frozen=True, slots=True)
class Job:
    """One command in the cluster. `study` is empty where it is not one of ours, or no run of a study."""

    id: str
    status: str
    exit_code: int | None
    message: str
    started: int  # milliseconds since 1970
    study: str = ""
    storage: str = ""
    source: str = ""  # what it was made of: equal for the same study file, code and options
    runtime_env: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        """Whether its process runs, or is going to."""
        return self.status in ACTIVE


class JobServer:
    """A cluster's job server. For one thread.

    Args:
        address: such as http://HOST:8265.
        token: that guards it.

    Raises:
        ClusterError: nobody answers there, the token is refused, or its Ray is of another version.
    """

    def __init__(self, address: str, token: str | None) -> None:
        self.address = address.rstrip("/")
        self._has_token = token is not None
        require_answer(self.address)
        for talkative in ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk"):
            logging.getLogger(talkative).setLevel(logging.WARNING)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with self._complaints():
            self._client = _Client(self.address, headers=headers)
            there = self._client.ray_version()
        if there.split(".")[:2] != ray.__version__.split(".")[:2]:
            raise ClusterError(
                f"the cluster at {self.address} runs Ray {there}, and here is Ray {ray.__version__}; install the same "
                f"one here (pip install 'ray=={there}') or there"
            )

    # --- asking --------------------------------------------------------------------------------------------------

    def submit(
        self,
        study: str,
        storage: str,
        words: Sequence[str],
        *,
        package: Package | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        source: str = "",
    ) -> Job:
        """Returns a new job that runs the command line; its directory is the package, or that of an earlier job."""
        environment = dict(runtime_env or {})
        if package is not None:
            environment["working_dir"] = str(package.file)
        with self._complaints():
            name = self._client.submit_job(
                entrypoint=shlex.join(words),
                submission_id=f"{study or 'orchestrator'}-{secrets.token_hex(4)}",
                runtime_env=environment,
                metadata={STUDY: study, STORAGE: storage, SOURCE: source},
            )
        return self.get(name)

    def get(self, job: str) -> Job:
        """Returns a job as it is now."""
        with self._complaints():
            return _job(self._client.get_job_info(job))

    def of_study(self, study: str) -> list[Job]:
        """Returns the jobs that ran or watched a study, the newest first."""
        with self._complaints():
            jobs = [_job(details) for details in self._client.list_jobs()]
        return sorted((job for job in jobs if job.study == study), key=lambda job: -job.started)

    def find(self, name: str) -> Job:
        """Returns the newest job of a study, or the job of that id.

        Raises:
            UnknownStudy: there is neither.
        """
        found = self.of_study(name)
        if found:
            return found[0]
        with self._complaints():
            jobs = [_job(details) for details in self._client.list_jobs()]
        for job in jobs:
            if job.id == name:
                return job
        studies = sorted({job.study for job in jobs if job.study})
        known = f"it knows {', '.join(studies)}" if studies else "no study was submitted to it"
        raise UnknownStudy(f"the cluster at {self.address} knows no study and no job '{name}'; {known}")

    def logs(self, job: Job) -> str:
        """Returns all that the job has written so far."""
        with self._complaints():
            return str(self._client.get_job_logs(job.id))

    def lines(self, job: Job) -> AsyncIterator[str]:
        """Yields what the job writes, from its first word on, until it ends or the connection breaks."""
        words: AsyncIterator[str] = self._client.tail_job_logs(job.id)
        return words

    def ask(self, words: Sequence[str]) -> tuple[int, str]:
        """Runs a short command of ours in the cluster; returns its exit code and what it wrote. Takes some seconds."""
        job = self.submit("", "", words)
        while (job := self.get(job.id)).is_active:
            time.sleep(LOOK_SECONDS)
        before, marked, after = self.logs(job).partition(STARTS)
        return exit_code(job), after.partition("\n")[2] if marked else before

    @contextmanager
    def _complaints(self) -> Iterator[None]:
        """Makes the errors of Ray's client our own."""
        try:
            yield
        except AuthenticationError as error:
            given = "the token is wrong" if self._has_token else "no token was given"
            raise ClusterError(
                f"the cluster at {self.address} refuses: {given}. Give --token-file FILE, or set {TOKEN_VARIABLE} or "
                f"{TOKEN_PATH_VARIABLE}, or put it into {TOKEN_PATH}; it is the file of that name on the cluster's head"
            ) from error
        except (ConnectionError, requests.exceptions.RequestException) as error:
            raise ConnectionLost(f"no job server answers at {self.address} ({type(error).__name__})") from error
        except RuntimeError as error:
            raise ClusterError(f"the job server at {self.address} refuses: {str(error)[:300]}") from error


class ConnectionLost(ClusterError):
    """The job server does not answer; it may again."""


class _Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client, which by itself waits for ever."""

    def _do_request(self, method: str, endpoint: str, **given: Any) -> Any:
        patience = ANSWER_SECONDS * (10 if given.get("data") else 1)
        return super()._do_request(method, endpoint, timeout=(CONNECT_SECONDS, patience), **given)

    def ray_version(self) -> str:
        return str(self._do_request("GET", "/api/version").json()["ray_version"])


def exit_code(job: Job) -> int:
    """Returns the exit code of a job that has ended: its own, or 1.

    Raises:
        ClusterError: the program is not installed in the cluster.
    """
    if job.exit_code == NOT_FOUND:
        raise ClusterError(
            f"job {job.id} found no `orchestrator` on the cluster's head; install the program on every host "
            "(setup_commands in the cluster's file)"
        )
    if job.status == "SUCCEEDED":
        return 0
    return job.exit_code if job.exit_code and job.exit_code > 0 else 1


def _job(details: Any) -> Job:
    metadata = details.metadata or {}
    return Job(
        id=str(details.submission_id or details.job_id),
        status=str(getattr(details.status, "value", details.status)),
        exit_code=details.driver_exit_code,
        message=str(details.message or ""),
        started=int(details.start_time or 0),
        study=str(metadata.get(STUDY, "")),
        storage=str(metadata.get(STORAGE, "")),
        source=str(metadata.get(SOURCE, "")),
        runtime_env=dict(details.runtime_env or {}),
    )

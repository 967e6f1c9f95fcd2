"""What a job server's refusals become: what was given, what is allowed, what to do."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import ray

from orchestrator.domain.errors import ClusterError, UnknownStudy
from orchestrator.process_graph.jobs import Job, JobServer, exit_code

TOKEN = "open sesame"


@contextmanager
def served(ray_version: str = ray.__version__) -> Iterator[str]:
    """Yields the address of a server that answers as Ray's does, with a token, a version and one job."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = self.headers.get("authorization")
            if given != f"Bearer {TOKEN}":
                self._answer(403 if given else 401, b"Forbidden" if given else b"Unauthorized")
            elif self.path == "/api/version":
                self._answer(200, json.dumps({"version": "4", "ray_version": ray_version}).encode())
            else:
                details = {
                    "type": "SUBMISSION",
                    "submission_id": "digits-1",
                    "status": "RUNNING",
                    "entrypoint": "orchestrator run study.yaml",
                    "metadata": {"orchestrator.study": "digits", "orchestrator.storage": "/mnt"},
                    "start_time": 1,
                }
                self._answer(200, json.dumps([details]).encode())

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *given: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_no_token_and_a_wrong_one_are_told_apart_with_what_to_set() -> None:
    with served() as address:
        with pytest.raises(ClusterError, match=r"no token was given.*--token-file.*RAY_AUTH_TOKEN"):
            JobServer(address, None)
        with pytest.raises(ClusterError, match=r"the token is wrong.*--token-file.*RAY_AUTH_TOKEN"):
            JobServer(address, "guessed")


def test_a_cluster_with_another_ray_is_refused_with_both_versions() -> None:
    with served("2.41.0") as address, pytest.raises(ClusterError, match=rf"Ray 2\.41\.0.*{ray.__version__}"):
        JobServer(address, TOKEN)


def test_a_study_is_found_by_its_name_and_a_job_by_its_id() -> None:
    with served() as address:
        server = JobServer(address, TOKEN)
        assert server.find("digits").id == server.find("digits-1").id == "digits-1"
        assert server.find("digits").storage == "/mnt"
        with pytest.raises(UnknownStudy, match="knows digits"):
            server.find("mnist")


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", 137, 137), ("FAILED", None, 1), ("STOPPED", None, 1)],
)
def test_a_job_ends_with_its_own_exit_code(status: str, code: int | None, expected: int) -> None:
    assert exit_code(Job("digits-1", status, code, "", 0)) == expected


def test_a_cluster_without_the_program_is_said() -> None:
    with pytest.raises(ClusterError, match="install the program on every host"):
        exit_code(Job("digits-1", "FAILED", 127, "", 0))

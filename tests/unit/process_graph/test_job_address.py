"""The token that opens a cluster is where Ray keeps it, and a server that is not there is said at once."""

import socket
from pathlib import Path

import pytest

from orchestrator.domain.errors import ClusterError
from orchestrator.process_graph.job_address import cluster_token, is_job_server, require_answer


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_file_comes_before_the_variable_and_that_before_rays_own_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cluster_token(None) is None
    (home / ".ray").mkdir()
    (home / ".ray/auth_token").write_text("from-home\n")
    assert cluster_token(None) == "from-home"
    (home / "elsewhere").write_text("from-path\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "elsewhere"))
    assert cluster_token(None) == "from-path"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "from-variable")
    assert cluster_token(None) == "from-variable"
    (home / "given").write_text("from-option")
    assert cluster_token(home / "given") == "from-option"


def test_a_token_file_that_cannot_be_read_is_named(home: Path) -> None:
    with pytest.raises(ClusterError, match="nowhere"):
        cluster_token(home / "nowhere")


@pytest.mark.parametrize(
    ("address", "is_one"),
    [("http://h:8265", True), ("https://h", True), ("h:6379", False), ("auto", False), (None, False)],
)
def test_a_job_server_is_told_from_ray_itself(address: str | None, is_one: bool) -> None:
    assert is_job_server(address) is is_one


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "http://"])
def test_other_addresses_are_refused_with_what_one_looks_like(address: str) -> None:
    with pytest.raises(ClusterError, match="http://HOST:8265"):
        require_answer(address)


def test_a_server_that_is_not_there_is_said_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ClusterError, match="no job server answers"):
        require_answer(f"http://127.0.0.1:{port}")

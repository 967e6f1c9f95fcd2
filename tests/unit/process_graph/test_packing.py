"""What goes to a cluster, and what is too large to go."""

import os
from pathlib import Path

import pytest

from orchestrator.domain.errors import InvalidInput
from orchestrator.process_graph import packing
from orchestrator.process_graph.packing import packed


def test_the_hash_is_of_names_and_contents_not_of_times(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("study: a")
    with packed(tmp_path) as first:
        assert first.file.is_file()
    os.utime(tmp_path / "study.yaml", (1, 10**9))
    with packed(tmp_path) as second:
        assert second.sha256 == first.sha256
    (tmp_path / "study.yaml").write_text("study: b")
    with packed(tmp_path) as third:
        assert third.sha256 != first.sha256
    assert not first.file.exists()


def test_results_and_what_rayignore_names_stay_here(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("study: a")
    with packed(tmp_path) as alone:
        pass
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/journal").write_text("much")
    (tmp_path / "data.csv").write_text("more")
    (tmp_path / ".rayignore").write_text("data.csv\n.rayignore\n")
    with packed(tmp_path) as again:
        assert again.sha256 == alone.sha256


def test_a_directory_that_is_too_large_is_refused_with_its_largest_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LARGEST", 2**20)
    (tmp_path / "study.yaml").write_text("study: a")
    (tmp_path / "weights.bin").write_bytes(os.urandom(2**21))
    with pytest.raises(InvalidInput, match=r"weights\.bin \(2\.0 MiB\).*\.rayignore"), packed(tmp_path):
        pass

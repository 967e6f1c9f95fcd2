"""What a bundle has to show before it may answer, and what becomes of one that ends the process that checks it."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest

from deploy.bundle import Bundle, Lineage, write_bundle
from deploy.checking import BundleChecks, require_alike
from orchestrator.domain.errors import BundleError

DIES = """
import os, signal, sys
from pathlib import Path
from deploy.bundle import Bundle
from deploy.checking import BundleChecks

Bundle.warm_up = lambda _: os.kill(os.getpid(), signal.SIGKILL)
BundleChecks(Path(sys.argv[1])).offer(sys.argv[2], None)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "host").mkdir()
    return tmp_path / "host" / "endpoint"


def die(folder: Path, uri: str) -> None:
    ended = subprocess.run([sys.executable, "-c", DIES, str(folder), uri], timeout=60, capture_output=True)
    assert ended.returncode == -9, ended.stderr


def test_a_bundle_that_ended_the_process_twice_is_not_run_again(folder: Path, make_bundle: Callable[..., Path]) -> None:
    uri, checks = str(make_bundle()), BundleChecks(folder)
    die(folder, uri)
    die(folder, uri)
    with pytest.raises(BundleError, match=r"ended the process that checked it, 2 times.*delete (\S+) and ask") as why:
        checks.offer(uri, None)
    assert checks.offer(str(make_bundle("2", scores=(0.5, 0.5))), None).lineage.trial == 12
    (note,) = [word for word in str(why.value).split() if word.startswith(str(folder))]
    os.unlink(note)
    assert checks.offer(uri, None).digest == Bundle.open(uri).digest


def test_one_death_is_nobodys_fault(folder: Path, make_bundle: Callable[..., Path]) -> None:
    uri, checks = str(make_bundle()), BundleChecks(folder)
    for _ in range(3):
        die(folder, uri)
        checks.offer(uri, None)
    assert list(folder.iterdir()) == []


def test_an_error_is_no_death(folder: Path, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    uri, checks = str(make_bundle()), BundleChecks(folder)

    def fail(_: Bundle) -> None:
        raise BundleError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(Bundle, "warm_up", fail)
        for _ in range(4):
            with pytest.raises(BundleError, match="no answer"):
                checks.offer(uri, None)
    checks.offer(uri, None)


def test_several_checks_of_a_bundle_at_once_are_no_deaths(
    folder: Path, make_bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, checks, together = str(make_bundle()), BundleChecks(folder), Barrier(4)
    monkeypatch.setattr(Bundle, "warm_up", lambda _: together.wait(20))
    with ThreadPoolExecutor(4) as pool:
        offers = list(pool.map(lambda _: checks.offer(uri, None), range(4)))
    assert len({offer.digest for offer in offers}) == 1
    assert list(folder.iterdir()) == []


def test_where_nothing_can_be_noted_it_is_checked_too(tmp_path: Path, make_bundle: Callable[..., Path]) -> None:
    (tmp_path / "file").write_text("")
    assert BundleChecks(tmp_path / "file" / "x").offer(str(make_bundle()), None).lineage.study == "digits"


def test_a_bundle_is_refused_under_another_lineage(folder: Path, make_bundle: Callable[..., Path]) -> None:
    with pytest.raises(BundleError, match="Promote it with its own lineage"):
        BundleChecks(folder).offer(str(make_bundle()), Lineage("digits", 99, 27).to_dict())


def test_those_that_take_other_columns_are_not_alike(
    tmp_path: Path, bundle: Bundle, make_bundle: Callable[..., Path], brittle_model: Callable[..., bytes]
) -> None:
    require_alike(bundle.uri, 1, str(make_bundle("2", scores=(0.5, 0.5))))
    other = write_bundle(
        tmp_path / "wide",
        onnx_model=brittle_model(4, [0.75, 0.25], 0.2),
        schema=type(bundle.schema)(columns=("a", "b", "c", "d"), kind=bundle.schema.kind, labels=bundle.schema.labels),
        lineage=Lineage("digits", 34, 27),
        sample_rows=np.ones((4, 4), dtype=np.float32),
    )
    with pytest.raises(BundleError, match="takes or gives other columns or labels than version 1"):
        require_alike(bundle.uri, 1, str(other))

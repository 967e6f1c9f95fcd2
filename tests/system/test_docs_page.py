"""The endpoint's page in a real browser: it asks for the token, shows the model, and its examples are answered."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy import EndpointAddress, stop_serve

sys.path.insert(0, str(Path(__file__).parent))

from asked_endpoints import ROOT, Trained, serving, train_churn

OWN = ROOT / ".venv" / "browser" / "bin" / "python"
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(BROWSER is None, reason="there is no Chromium: make test-system installs it, as root"),
    pytest.mark.skipif(not OWN.exists(), reason=f"playwright is not installed into .venv/browser (in {ROOT})"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train_churn(tmp_path_factory.mktemp("bundles"))


@pytest.fixture(scope="module")
def address(ray_session: None, trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndpointAddress]:
    with serving(trained, tmp_path_factory.mktemp("runs"), 0, None) as address:
        yield address
    stop_serve()


@pytest.fixture(scope="module")
def seen(address: EndpointAddress) -> dict[str, Any]:
    given = {"url": address.url, "token": address.token, "browser": BROWSER}
    script = str(Path(__file__).with_name("look_at_docs.py"))
    done = subprocess.run([str(OWN), script], input=json.dumps(given), capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_nothing_is_shown_without_the_token(seen: dict[str, Any]) -> None:
    assert "a wrong token" in seen["refused"]
    assert seen["hidden_until_then"]


def test_the_model_is_shown(seen: dict[str, Any], trained: Trained) -> None:
    assert seen["title"] == "churn"
    assert seen["columns"] == list(trained.bundle.schema.columns)


def test_each_example_is_answered_when_tried(seen: dict[str, Any], trained: Trained) -> None:
    names = [tried["name"] for tried in seen["tried"]]
    assert names == ["JSON: Records of columns", "JSON: Lists of cells", "JSON: Columns", "CSV"]
    labels = list(trained.bundle.predict(trained.bundle.sample[:2]).labels)
    for tried in seen["tried"]:
        assert tried["status"].startswith("200"), tried
        assert json.loads(tried["answer"])["predictions"] == labels


def test_a_wrong_row_is_told_what_is_wrong(seen: dict[str, Any]) -> None:
    status, answer = seen["wrong"]
    assert status.startswith("422")
    assert "Row 0 has 0 cells; this model takes 16" in answer


def test_the_line_for_a_shell_works_when_pasted(seen: dict[str, Any], address: EndpointAddress) -> None:
    environment = {**os.environ, "TOKEN": address.token}
    done = subprocess.run(["bash", "-c", seen["shell"]], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["study"] == "churn"


def test_nothing_comes_from_elsewhere_and_nothing_is_stored(seen: dict[str, Any], address: EndpointAddress) -> None:
    assert all(url.startswith(address.url) for url in seen["asked"])
    assert seen["stored"] == {"cookies": [], "origins": []}
    refused = ("401", "422")  # as a browser reports the two refusals above
    assert [error for error in seen["errors"] if not any(status in error for status in refused)] == []

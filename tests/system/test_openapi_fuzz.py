"""What Schemathesis asks by the OpenAPI page of real endpoints: no 5xx, no hang, nobody dies of it.

`FUZZ_SEED=… pytest tests/system/test_openapi_fuzz.py` draws others.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from asked_endpoints import ROOT
from fuzzed_endpoints import PATIENCE_SECONDS, SEED, Target, serving_targets, unharmed

SCHEMATHESIS = ROOT / ".venv" / "fuzz" / "bin" / "st"
pytestmark = [pytest.mark.system, pytest.mark.usefixtures("ray_session"), pytest.mark.timeout(900)]
OWN_FAULT = (
    "SystemError: AST constructor recursion depth mismatch"  # of Python 3.11, as Hypothesis describes a strategy
)


@pytest.fixture(scope="module")
def targets(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    with serving_targets(tmp_path_factory.mktemp("bundles"), tmp_path_factory.mktemp("runs")) as found:
        yield found


@pytest.fixture(params=["churn", "digits"])
def target(request: pytest.FixtureRequest, targets: dict[str, Target]) -> Iterator[Target]:
    with unharmed(targets[request.param]) as found:
        yield found


@pytest.mark.skipif(not SCHEMATHESIS.exists(), reason="schemathesis is not installed: make test-system does it")
def test_schemathesis_finds_nothing_by_the_page(target: Target, tmp_path: Path) -> None:
    address = target.address
    command = [
        *(str(SCHEMATHESIS), "run", f"{address.url}/openapi.json", "-H", f"Authorization: Bearer {address.token}"),
        *("--checks", "not_a_server_error", "--max-response-time", f"{PATIENCE_SECONDS:g}", "--seed", str(SEED)),
        *("--max-examples", "60", "--phases", "examples,coverage,fuzzing", "--workers", "2", "--no-color"),
    ]
    for _ in range(3):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=240)
        if OWN_FAULT not in done.stdout:
            break
    print(done.stdout[-2500:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]

"""Who may ask a running endpoint for what, and what an admin does from outside its cluster."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import ray

from deploy import EndpointAddress, EndpointHandle, Scale, endpoint_handle, start_endpoint, stop_endpoint, stop_serve
from deploy.bundle import Kind, Lineage, Schema, constant_model, write_bundle
from orchestrator.cli.program import execute

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

SCHEMA = Schema(columns=("width", "height"), kind=Kind.CLASSIFICATION, labels=(0, 1, 2, 3))
ROWS = {"rows": [[1.0, 2.0]]}


def wait_until(holds: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def bundles(storage: Path) -> list[Path]:
    """One bundle a class, which it always predicts."""
    return [
        write_bundle(
            storage / "shapes" / "bundles" / str(label),
            onnx_model=constant_model(2, [float(label == other) for other in range(4)]),
            schema=SCHEMA,
            lineage=Lineage("shapes", 100 + label, 9),
            sample_rows=np.ones((2, 2), dtype=np.float32),
        )
        for label in range(4)
    ]


@pytest.fixture(scope="module")
def address(ray_session: None, storage: Path) -> Iterator[EndpointAddress]:
    stop_serve()  # where another test left it, on a port of its own
    yield start_endpoint("shapes", storage, scale=Scale(2, 2, 0.5))
    stop_endpoint("shapes")
    assert stop_serve()


@pytest.fixture(scope="module")
def handle(address: EndpointAddress, bundles: list[Path]) -> EndpointHandle:
    handle = endpoint_handle("shapes")
    wait_until(lambda: len(handle.status()["replicas"]) == 2)
    for bundle in bundles:
        handle.promote(str(bundle), who="a test", why="version by version")
    return handle


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(storage: Path, handle: EndpointHandle, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `orchestrator ...`; returns its exit code and what it wrote."""

    def run(*words: str) -> tuple[int, str, str]:
        code = execute([*words, "--storage", str(storage)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def outside(address: EndpointAddress, command: Command, tmp_path: Path) -> Command:
    """Runs a command as somebody called `ops` who has an admin's token and nothing else, no storage either."""
    name = f"ops-{tmp_path.name}"
    command("token", "add", "shapes", name, "--scope", "admin", "--file", str(tmp_path / "ops"))
    token = (tmp_path / "ops").read_text().strip()
    wait_until(lambda: statuses(address, token, "/v2") == {200})

    def run(*words: str) -> tuple[int, str, str]:
        return command(*words, "--address", address.url, "--token-file", str(tmp_path / "ops"))

    return run


def statuses(address: EndpointAddress, token: str, path: str = "/predict", times: int = 8) -> set[int]:
    """Returns with which statuses both replicas answer; each request has a connection of its own."""
    headers = {"authorization": f"Bearer {token}"}
    answers = (
        httpx.post(address.url + path, headers=headers, json=ROWS)
        if path == "/predict"
        else httpx.get(address.url + path, headers=headers)
        for _ in range(times)
    )
    return {answer.status_code for answer in answers}


def origin(address: EndpointAddress) -> str:
    """Returns where requests of this test come from, as a replica is told; HAProxy says for whom it asks."""
    return "127.0.0.1 via 127.0.0.1" if address.ingress == "HAProxy" else "127.0.0.1"


def test_a_token_is_made_rotated_and_revoked_without_a_restart(
    address: EndpointAddress, handle: EndpointHandle, command: Command
) -> None:
    pids = {replica["pid"] for replica in handle.status()["replicas"]}
    first = command("token", "add", "shapes", "shop")[1].strip()
    wait_until(lambda: statuses(address, first) == {200})
    second = command("token", "rotate", "shapes", "shop", "--overlap", "1h")[1].strip()
    wait_until(lambda: statuses(address, second) == {200})
    assert statuses(address, first) == {200}
    assert statuses(address, first, "/admin/status") == {403}
    command("token", "revoke", "shapes", "shop")
    wait_until(lambda: statuses(address, first) | statuses(address, second) == {401})
    assert {replica["pid"] for replica in handle.status()["replicas"]} == pids


def test_an_admin_decides_from_outside_and_the_history_names_the_token(
    address: EndpointAddress, handle: EndpointHandle, command: Command, outside: Command, tmp_path: Path
) -> None:
    assert outside("promote", "shapes", "2", "--why", "it was fine")[:2] == (
        0,
        "endpoint 'shapes' answers with version 2\n",
    )
    assert outside("rollback", "shapes", "--to", "3")[1] == "endpoint 'shapes' answers with version 3\n"
    assert outside("freeze", "shapes", "--why", "a holiday")[1] == "endpoint 'shapes' changes by hand only\n"
    assert outside("unfreeze", "shapes")[1] == "endpoint 'shapes' changes by itself\n"
    there, here = (json.loads(run("history", "shapes", "--json")[1]) for run in (outside, command))
    assert there == here
    who = f"ops-{tmp_path.name}"
    assert [(change["event"], change["who"], change["why"], change["origin"]) for change in here[-4:]] == [
        ("promoted", who, "it was fine", origin(address)),
        ("rolled_back", who, "", origin(address)),
        ("frozen", who, "a holiday", origin(address)),
        ("unfrozen", who, "", origin(address)),
    ]
    assert json.loads(outside("history", "shapes", "--version", "2", "--json")[1])["lineage"]["trial"] == 101


def test_a_version_is_tried_with_a_share_of_the_requests(
    address: EndpointAddress, handle: EndpointHandle, outside: Command
) -> None:
    handle.promote_version(4)
    assert outside("promote", "shapes", "2", "--canary", "25")[1] == (
        "endpoint 'shapes' answers with version 4; the rollout begins\n"
    )
    assert {(replica["contender"], replica["weight"]) for replica in handle.status()["replicas"]} == {(2, 0.25)}
    code, _, said = outside("promote", "shapes", "4", "--canary", "25")
    assert (code, "409" in said, "answers all requests already" in said) == (1, True, True)
    assert outside("promote", "shapes", "2", "--canary", "101")[0] == 2
    assert outside("rollback", "shapes")[1] == (
        "endpoint 'shapes' answers with version 4; the challenger was withdrawn\n"
    )


def test_what_cannot_be_done_is_a_clear_refusal(
    address: EndpointAddress, outside: Command, handle: EndpointHandle, bundles: list[Path]
) -> None:
    handle.promote_version(4)
    code, _, said = outside("promote", "shapes", "99")
    assert (code, "There is no version 99; versions: 1, 2, 3, 4" in said, "404" in said) == (1, True, True)
    code, _, said = outside("freeze", "circles")
    assert (code, "This is the endpoint 'shapes', not 'circles'" in said) == (1, True)
    away = bundles[0].with_name("away")
    bundles[0].rename(away)
    try:
        code, _, said = outside("rollback", "shapes", "--to", "1")
        assert (code, "409" in said, "nothing was changed" in said) == (1, True, True)
    finally:
        away.rename(bundles[0])
    assert handle.status()["version"] == 4


def test_of_promotions_at_once_each_is_answered_and_they_happen_one_after_the_other(
    address: EndpointAddress, handle: EndpointHandle
) -> None:
    handle.promote_version(4)
    before = handle.status()["generation"]
    headers = {"authorization": f"Bearer {address.token}"}

    def promote(version: int) -> httpx.Response:
        return httpx.post(f"{address.url}/admin/promote", headers=headers, json={"version": version}, timeout=60)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(promote, (1, 2, 3, 1, 2, 3)))
    assert [answer.status_code for answer in answers] == [200] * 6
    changed = sorted(answer.json()["generation"] for answer in answers if answer.json()["changed"])
    assert changed == list(range(before + 1, before + 1 + len(changed)))
    after = handle.status()
    assert after["generation"] == before + len(changed)
    assert {replica["version"] for replica in after["replicas"]} == {after["version"]}


def test_a_scrape_of_any_replica_has_the_numbers_of_all(
    address: EndpointAddress, handle: EndpointHandle, command: Command, outside: Command
) -> None:
    token = command("token", "add", "shapes", "prometheus", "--scope", "metrics")[1].strip()
    wait_until(lambda: statuses(address, token, "/metrics") == {200})
    assert statuses(address, token) == {403}
    text = httpx.get(f"{address.url}/metrics", headers={"authorization": f"Bearer {token}"}).text
    info = [line for line in text.splitlines() if line.startswith("orchestrator_endpoint_model_info{")]
    version = handle.status()["version"]
    assert len(info) == 2
    assert all(f'version="{version}"' in line for line in info)
    assert 'orchestrator_endpoint_actor_up{endpoint="shapes"} 1.0' in text
    assert 'kind="forbidden"' in text
    code, shown, _ = outside("metrics", "shapes")
    assert (code, shown.splitlines()[0]) == (0, text.splitlines()[0])


def test_ray_exports_each_replicas_sums_on_its_host(address: EndpointAddress, handle: EndpointHandle) -> None:
    asked = 'protocol="http"', 'route="predict"', 'status="200"'

    def replicas() -> set[str]:
        """Returns the replicas whose answers Ray's metrics port tells of."""
        text = httpx.get(f"http://127.0.0.1:{ray.nodes()[0]['MetricsExportPort']}/metrics").text
        told = [line for line in text.splitlines() if line.startswith("ray_orchestrator_endpoint_requests_total{")]
        return {
            line.partition('replica="')[2].partition('"')[0] for line in told if all(label in line for label in asked)
        }

    running = {reading.standing.replica for reading in handle.readings()}
    assert len(running) == 2
    # Ray goes on to tell of replicas that other tests ended; and a replica may not have been asked yet.
    wait_until(lambda: statuses(address, address.token) == {200} and replicas() >= running)


def test_the_audit_log_says_who_did_what_and_no_secret_is_anywhere(
    address: EndpointAddress, handle: EndpointHandle, storage: Path, command: Command, tmp_path: Path
) -> None:
    handle.promote_version(4)  # so that a promotion of 1 changes something
    program = [sys.executable, "-m", "orchestrator.cli"]
    made = [*program, "token", "add", "shapes", "audited", "--scope", "admin", "--storage", str(storage)]
    secret = subprocess.run(made, capture_output=True, text=True, check=True).stdout.strip()
    wait_until(lambda: statuses(address, secret, "/admin/status") == {200})
    assert statuses(address, secret) == {403}
    guess = "a-guess-that-is-wrong-and-long-enough-to-be-found"
    assert statuses(address, guess) == {401}
    headers = {"authorization": f"Bearer {secret}"}
    assert httpx.post(f"{address.url}/admin/promote", headers=headers, json={"version": 99}).status_code == 404
    (tmp_path / "token").write_text(secret)
    words = ["promote", "shapes", "1", "--address", address.url, "--token-file", str(tmp_path / "token")]
    with subprocess.Popen([*program, *words], stdout=subprocess.DEVNULL) as asking:
        while asking.poll() is None:  # looked at while it runs, and at the replicas beside it
            assert not found_in_processes(secret)
    command("token", "rotate", "shapes", "audited", "--file", str(tmp_path / "second"))
    command("token", "revoke", "shapes", "audited")

    def told() -> set[tuple[str, str, str, str, str]]:
        entries = json.loads(command("audit", "shapes", "--json")[1])
        kept = ("who", "origin", "what", "outcome", "detail")
        return {tuple(entry[key][:24] for key in kept) for entry in entries}

    here = origin(address)
    denied = {
        ("audited", here, "authentication", "refused", "no scope predict"),
        ("unknown", here, "authentication", "refused", "a wrong token"),
    }
    wait_until(lambda: denied <= told())
    assert {
        ("audited", here, "promote", "refused", "404: There is no version"),
        ("audited", here, "promoted version 1", "done", ""),
    } <= told()
    assert {f"token {change} audited" for change in ("add", "rotate", "revoke")} <= {entry[2] for entry in told()}

    secrets = [secret, guess, (tmp_path / "second").read_text().strip(), address.token]
    places = [path for root in (storage, logs()) for path in root.rglob("*") if path.is_file()]
    assert len(places) > 20
    for path in places:
        held = [each for each in secrets if each.encode() in path.read_bytes()]
        assert held == ([address.token] if path == address.token_file else []), path
    assert not [each for each in secrets if found_in_processes(each)]


def logs() -> Path:
    """Returns where the processes of this Ray session log."""
    return Path(ray._private.worker._global_node.get_logs_dir_path())


def found_in_processes(secret: str) -> list[int]:
    """Returns the processes that show a secret to everybody on this host: in their command lines."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if secret.encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
        except OSError:  # it has ended
            continue
    return found

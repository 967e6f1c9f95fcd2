"""The two forms of a cluster's file are ones that Ray takes, and say the same thing everywhere. No cloud is asked."""

import json
import re
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


ON_PREMISE = "deploy/clusters/onpremise.yaml"


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


@pytest.fixture(scope="module", params=["cluster.yaml", ON_PREMISE])
def each(request: pytest.FixtureRequest) -> dict[str, Any]:
    return yaml.safe_load((ROOT / request.param).read_text())


@pytest.fixture(scope="module")
def on_premise() -> dict[str, Any]:
    return yaml.safe_load((ROOT / ON_PREMISE).read_text())


def ray_schema() -> dict[str, Any]:
    spec = find_spec("ray.autoscaler")
    assert spec is not None
    assert spec.origin is not None
    return json.loads((Path(spec.origin).parent / "ray-schema.json").read_text())


def starts(cluster: dict[str, Any]) -> list[str]:
    commands = cluster["head_start_ray_commands"] + cluster["worker_start_ray_commands"]
    return [command for command in commands if "ray start" in command]


def test_rays_own_schema_takes_it(each: dict[str, Any]) -> None:
    jsonschema.validate(each, ray_schema())


def test_rays_schema_would_refuse_an_unknown_key(each: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**each, "max_worker": 3}, ray_schema())


def test_the_head_is_one_of_the_node_types(cluster: dict[str, Any]) -> None:
    assert cluster["head_node_type"] in cluster["available_node_types"]


def test_the_limits_add_up(cluster: dict[str, Any]) -> None:
    workers = {name: kind for name, kind in cluster["available_node_types"].items() if name != "head"}
    assert sum(kind["max_workers"] for kind in workers.values()) == cluster["max_workers"]
    assert all(kind["min_workers"] == 0 for kind in workers.values()), "everything but the head comes on demand"
    assert 0 < cluster["idle_timeout_minutes"] <= 15, "idle hosts cost money"


def test_only_gpu_workers_are_taken_from_the_spot_market(cluster: dict[str, Any]) -> None:
    kinds = cluster["available_node_types"]
    on_spot = {n for n, kind in kinds.items() if kind["node_config"].get("InstanceMarketOptions")}
    assert on_spot == {name for name, kind in kinds.items() if "GPU" in kind["resources"]} == {"gpu"}
    assert kinds["gpu"]["docker"]["worker_image"].endswith("-gpu")


def test_each_start_is_guarded_by_the_token(each: dict[str, Any]) -> None:
    assert len(starts(each)) == 2
    started = [command.rpartition("; ")[2] for command in starts(each)]
    assert all(re.match(r"RAY_AUTH_MODE=token (RAY_\w+=\d+ )*ray start ", command) for command in started)
    assert each["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_both_forms_give_up_a_silent_host_alike(cluster: dict[str, Any], on_premise: dict[str, Any]) -> None:
    checks = [re.findall(r"RAY_health_check_\w+=\d+", starts(each)[0]) for each in (cluster, on_premise)]
    assert len(checks[0]) == 3
    assert checks[0] == checks[1]


def run_start(command: str, home: Path) -> tuple[list[str], dict[str, str]]:
    """Returns the words and Ray's variables that a start command gives to `ray`, run by a shell with this home."""
    (home / "bin").mkdir(exist_ok=True)
    ray = home / "bin/ray"
    ray.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nenv | grep -i "^RAY_\\|REDIS" | sed "s/^/env /"\n')
    ray.chmod(0o755)
    environment = {"HOME": str(home), "PATH": f"{home}/bin:/usr/bin:/bin", "RAY_HEAD_IP": "192.0.2.1"}
    said = subprocess.run(["sh", "-c", command], env=environment, capture_output=True, text=True, check=True).stdout
    words = [line for line in said.splitlines() if not line.startswith("env ")]
    variables = dict(line[4:].split("=", 1) for line in said.splitlines() if line.startswith("env "))
    return words, variables


def test_ray_starts_without_a_store_of_its_state(each: dict[str, Any], tmp_path: Path) -> None:
    for command in starts(each):
        words, variables = run_start(command, tmp_path)
        assert not any("redis" in word for word in words)
        assert not any("REDIS" in name or "external" in name for name in variables)


def test_ray_keeps_its_state_in_the_store_that_a_file_on_the_host_names(each: dict[str, Any], tmp_path: Path) -> None:
    example = re.search(r"```sh\n(# ~/\.ray/gcs_store\.env.*?)```", (ROOT / "docs/clusters.md").read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/gcs_store.env").write_text(example[1])
    head, worker = (run_start(command, tmp_path) for command in starts(each))
    assert head[1]["RAY_REDIS_ADDRESS"] == "192.0.2.9:6379"
    assert any(word.startswith("--redis-password=") and len(word) > 20 for word in head[0])
    assert not any("redis" in word for word in worker[0])
    for _, variables in (head, worker):
        assert int(variables["RAY_gcs_rpc_server_reconnect_timeout_s"]) > 60, "Ray's own: raylets end themselves then"
        assert "REDIS_PASSWORD" not in variables, "what trials find in their environment"


def test_whatever_is_executed_in_the_containers_shows_the_token(cluster: dict[str, Any]) -> None:
    assert "-e RAY_AUTH_MODE=token" in cluster["docker"]["run_options"]


def test_workers_join_the_port_that_the_head_opens(each: dict[str, Any]) -> None:
    head, worker = starts(each)
    port = re.search(r"--port=(\d+)", head)
    joined = re.search(r"--address=\$RAY_HEAD_IP:(\d+)", worker)
    assert port is not None
    assert joined is not None
    assert port[1] == joined[1]
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head


def test_both_forms_install_the_program_alike(cluster: dict[str, Any], on_premise: dict[str, Any]) -> None:
    assert cluster["setup_commands"] == on_premise["setup_commands"]
    assert cluster["file_mounts"] == on_premise["file_mounts"]


def test_nothing_is_open_to_the_world_but_ssh(cluster: dict[str, Any]) -> None:
    assert "IpPermissions" not in cluster["provider"]["security_group"]
    assert "--dashboard-host=127.0.0.1" in starts(cluster)[0]
    assert not any("0.0.0.0" in command for command in starts(cluster))


def test_images_have_the_ray_that_is_installed_here(cluster: dict[str, Any]) -> None:
    images = [cluster["docker"]["image"], cluster["available_node_types"]["gpu"]["docker"]["worker_image"]]
    assert all(f"rayproject/ray:{version('ray')}-py3" in image for image in images)


def test_the_storage_is_on_every_host(cluster: dict[str, Any]) -> None:
    assert "-v /mnt/orchestrator:/mnt/orchestrator" in cluster["docker"]["run_options"]
    assert any("/mnt/orchestrator" in command and "nfs4" in command for command in cluster["initialization_commands"])

"""The two forms of a cluster's file are ones that Ray takes, and say the same thing everywhere. No cloud is asked."""

import json
import re
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
    assert all(re.match(r"RAY_AUTH_MODE=token (RAY_\w+=\d+ )*ray start ", command) for command in starts(each))
    assert each["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


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

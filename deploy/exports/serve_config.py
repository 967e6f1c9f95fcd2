"""A configuration for Ray's own `serve deploy` and `serve run`: one application that answers from a bundle."""

import os
import secrets
from pathlib import Path

import yaml

from deploy.bundle import Bundle
from deploy.exports.directory import copy_bundle, written

APPLICATION = "deploy.standalone_replica:build"
TOKEN_BYTES = 32


def export_serve_config(bundle: Bundle, name: str, directory: Path, version: int = 1, replicas: int = 1) -> Path:
    """Returns the directory: `serve.yaml`, the bundle, and a new token (mode 600).

    The paths in it are those of the directory: on a cluster it has to lie where each host sees it. This program has to
    be installed there.

    Raises:
        EndpointError: the directory is taken, or cannot be written.
    """
    place = directory.absolute()

    def write(beside: Path) -> None:
        copy_bundle(bundle, beside / "bundle")
        descriptor = os.open(beside / "token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(TOKEN_BYTES) + "\n")
        arguments = {
            "bundle": str(place / "bundle"),
            "name": name,
            "token_file": str(place / "token"),
            "version": version,
        }
        deployment = {
            "name": "replica",
            "num_replicas": replicas,
            "max_ongoing_requests": 64,
            "ray_actor_options": {"num_cpus": 1, "runtime_env": {"env_vars": {"OMP_WAIT_POLICY": "PASSIVE"}}},
        }
        configuration = {
            "proxy_location": "HeadOnly",
            "http_options": {"host": "127.0.0.1", "port": 8000},
            "applications": [
                {
                    "name": name,
                    "route_prefix": "/",
                    "import_path": APPLICATION,
                    "args": arguments,
                    "deployments": [deployment],
                }
            ],
        }
        (beside / "serve.yaml").write_text(yaml.safe_dump(configuration, sort_keys=False))

    return written(directory, write)

"""An InferenceService for KServe, with the files that it serves.

From an image (`--image`, built of the container that lies beside) any bundle is served as here. From a storage
(`--uri`, to which the model repository beside is copied) KServe's Triton runtime serves the ONNX model.
"""

from pathlib import Path

import yaml

from deploy.bundle import Bundle
from deploy.exports.container import PORT, export_container
from deploy.exports.directory import written
from deploy.exports.triton import export_triton
from orchestrator.domain.errors import EndpointError

API = "serving.kserve.io/v1beta1"


def export_kserve(
    bundle: Bundle, name: str, directory: Path, version: int = 1, *, image: str = "", uri: str = ""
) -> Path:
    """Returns the directory: `inferenceservice.yaml`, and `container/` or `repository/`.

    Args:
        bundle: the model.
        name: of the service and the model.
        directory: new or empty.
        version: the number that answers name.
        image: under which name the container will be pushed; or
        uri: where the model repository will lie.

    Raises:
        EndpointError: neither or both of image and uri are given, Triton cannot serve it, or the directory is taken.
    """
    if bool(image) == bool(uri):
        raise EndpointError("KServe takes a model from an image or from a storage: give one of --image and --uri.")

    def write(place: Path) -> None:
        if image:
            export_container(bundle, name, place / "container", version)
            predictor = _of_image(image, name)
        else:
            export_triton(bundle, name, place / "repository", version)
            predictor = _of_storage(uri)
        service = {
            "apiVersion": API,
            "kind": "InferenceService",
            "metadata": {"name": _dns_name(name)},
            "spec": {"predictor": predictor},
        }
        (place / "inferenceservice.yaml").write_text(yaml.safe_dump(service, sort_keys=False))

    return written(directory, write)


def _of_image(image: str, name: str) -> dict[str, object]:
    secret = {"secretKeyRef": {"name": f"{_dns_name(name)}-token", "key": "token"}}
    probe = {"httpGet": {"path": "/v2/health/live", "port": PORT}}
    container = {
        "name": "kserve-container",
        "image": image,
        "ports": [{"containerPort": PORT, "protocol": "TCP"}],
        "env": [{"name": "ENDPOINT_TOKEN", "valueFrom": secret}],
        "readinessProbe": probe,
        "resources": {"requests": {"cpu": "1", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
    }
    return {"containers": [container]}


def _of_storage(uri: str) -> dict[str, object]:
    model = {
        "modelFormat": {"name": "onnx"},
        "runtime": "kserve-tritonserver",
        "protocolVersion": "v2",
        "storageUri": uri,
        "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}},
    }
    return {"model": model}


def _dns_name(name: str) -> str:
    """Returns a name that Kubernetes takes: lower case, no dots and underscores."""
    return name.lower().replace("_", "-").replace(".", "-")

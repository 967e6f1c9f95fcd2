"""A bundle as a plain application of Ray Serve: what `serve deploy` starts from an exported configuration."""

from pathlib import Path
from typing import Any

from ray import serve

from deploy.access.tokens import read_token
from deploy.answering.app import EndpointApp
from deploy.standalone import standalone_app


class StandaloneReplica:
    """Answers from one bundle for as long as it lives."""

    def __init__(self, bundle: str, name: str, token_file: str, version: int) -> None:
        self._app = standalone_app(bundle, name, read_token(Path(token_file)), version)

    def __serve_build_asgi_app__(self) -> EndpointApp:
        """Returns the application that requests go to; Serve asks for it once."""
        return self._app


def build(arguments: dict[str, Any]) -> Any:
    """Returns the application that a configuration's `args` describe; Serve calls it by its import path."""
    deployment = serve.deployment(serve.ingress()(StandaloneReplica)).options(name="replica")
    return deployment.bind(
        str(arguments["bundle"]),
        str(arguments["name"]),
        str(arguments["token_file"]),
        int(arguments.get("version", 1)),
    )

"""One bundle behind the endpoint's HTTP interface, without Ray and without a journal: for any ASGI server.

    ENDPOINT_BUNDLE=bundle ENDPOINT_NAME=digits ENDPOINT_TOKEN_FILE=token \\
        uvicorn --factory deploy.standalone:application

It answers as a replica does: the same paths, checks and bearer token. It has no rollouts, and takes no decisions.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.served import ModelSlot, Served
from deploy.bundle import Bundle
from orchestrator.domain.errors import EndpointError


def standalone_app(bundle: str, name: str, token: str, version: int = 1, threads: int = 1) -> EndpointApp:
    """Returns the application that answers from a bundle, loaded and warmed up.

    Args:
        bundle: its directory.
        name: of the model, in the paths of the Open Inference Protocol.
        token: what a request has to bring.
        version: the number that answers name.
        threads: of one prediction.

    Raises:
        BundleError: the bundle is damaged, or cannot answer its own sample.
    """
    opened = Bundle.open(bundle, threads=threads)
    opened.warm_up()
    slot = ModelSlot()
    slot.put(Served(opened, version, generation=1))
    return EndpointApp(AppSettings(name, token), slot)


def application() -> EndpointApp:
    """Returns the application that the environment describes; the factory for an ASGI server.

    Raises:
        EndpointError: a variable is missing.
        BundleError: as `standalone_app`.
    """
    given = os.environ
    version, threads = int(given.get("ENDPOINT_VERSION", "1")), int(given.get("ENDPOINT_THREADS", "1"))
    return standalone_app(
        _needed(given, "ENDPOINT_BUNDLE", "the bundle's directory"),
        given.get("ENDPOINT_NAME", "model"),
        _token(given),
        version,
        threads,
    )


def _token(given: Mapping[str, str]) -> str:
    file = given.get("ENDPOINT_TOKEN_FILE")
    if file is None:
        return _needed(given, "ENDPOINT_TOKEN", "the token that requests bring (or its file in ENDPOINT_TOKEN_FILE)")
    try:
        token = Path(file).read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EndpointError(f"The token {file} of ENDPOINT_TOKEN_FILE cannot be read ({error}).") from error
    if not token:
        raise EndpointError(f"The token {file} of ENDPOINT_TOKEN_FILE is empty. Write one into it.")
    return token


def _needed(given: Mapping[str, str], name: str, what: str) -> str:
    value = given.get(name, "")
    if not value:
        raise EndpointError(f"The environment lacks {name}. Give {what}.")
    return value

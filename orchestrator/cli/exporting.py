"""`export`: an endpoint's model as other servers take it."""

from collections.abc import Callable
from pathlib import Path

import click

from deploy.bundle import Bundle
from deploy.copies import open_bundle
from deploy.exports import export_container, export_kserve, export_serve_config, export_triton
from deploy.following import endpoint_state
from orchestrator.cli.options import json_option, storage_option
from orchestrator.cli.printing import print_json
from orchestrator.cli.serving import require_endpoint
from orchestrator.domain.errors import InvalidInput
from orchestrator.journal import AnyStorage

Write = Callable[[Bundle, str, Path, int], Path]
SAYS = {
    "triton": "tritonserver --model-repository={place}",
    "kserve": "kubectl apply --filename {place}/inferenceservice.yaml",
    "serve": "serve run {place}/serve.yaml",
    "docker": "docker build --tag {name} {place} && docker run --env ENDPOINT_TOKEN --publish 8080:8080 {name}",
}


@click.command()
@click.argument("name")
@click.option("--to", "kind", type=click.Choice(list(SAYS)), required=True, help="For whom.")
@click.option("--into", "directory", type=click.Path(path_type=Path), required=True, help="A new directory.")
@click.option("--version", type=click.IntRange(min=1), help="Of the endpoint; else the one that answers.")
@click.option("--image", default="", help="With --to kserve: the name under which the container will be pushed.")
@click.option("--uri", default="", help="With --to kserve: where the model repository will lie.")
@storage_option
@json_option
def export(
    name: str,
    kind: str,
    directory: Path,
    version: int | None,
    image: str,
    uri: str,
    storage: AnyStorage,
    as_json: bool,
) -> None:
    """Write the model of the endpoint NAME for another server. It needs the storage; nothing has to run."""
    if kind != "kserve" and (image or uri):
        raise InvalidInput(f"--image and --uri go with --to kserve, not with --to {kind}")
    require_endpoint(storage, name)
    state = endpoint_state(storage, name)
    number = version or (state.current.number if state.current else None)
    if number is None:
        raise InvalidInput(f"endpoint '{name}' has no model yet; nothing to export")
    if number not in state.versions:
        known = ", ".join(map(str, state.versions)) or "none"
        raise InvalidInput(f"endpoint '{name}' has no version {number}; there: {known}")
    writers: dict[str, Write] = {
        "triton": export_triton,
        "kserve": lambda *given: export_kserve(*given, image=image, uri=uri),
        "serve": export_serve_config,
        "docker": export_container,
    }
    place = writers[kind](open_bundle(state.versions[number].uri), name, directory, number)
    then = SAYS[kind].format(place=place, name=name.lower())
    if as_json:
        print_json({"endpoint": name, "version": number, "kind": kind, "directory": str(place), "then": then})
        return
    click.echo(f"version {number} of endpoint '{name}' is in {place}\n\n{then}")

"""`serve` brings an endpoint back, `predict` asks one. What is known of an endpoint is read from its journal."""

from pathlib import Path
from typing import Any

import click

from deploy.access.tls import Tls
from deploy.places import known_endpoints
from orchestrator.cli.options import json_option, storage_option
from orchestrator.cli.pasting import pasted
from orchestrator.cli.printing import block, number, print_json, table
from orchestrator.domain.errors import InvalidInput, did_you_mean
from orchestrator.domain.serving import DEFAULT_PORT, INGRESSES
from orchestrator.journal import AnyStorage

PEM = click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True)


@click.command()
@click.argument("name")
@click.option("--port", type=click.IntRange(1, 65535), help=f"Else the one it had last, or {DEFAULT_PORT}.")
@click.option("--ingress", type=click.Choice(INGRESSES), default=INGRESSES[0], show_default=True)
@click.option("--share", metavar="ENDPOINT", default="", help="In whose replicas; else as last time.")
@click.option("--tls-certificate", type=PEM, help="Speak TLS, with this certificate; else as last time.")
@click.option("--tls-key", type=PEM, help="The certificate's key.")
@storage_option
@json_option
def serve(
    name: str,
    port: int | None,
    ingress: str,
    share: str,
    tls_certificate: Path | None,
    tls_key: Path | None,
    storage: AnyStorage,
    as_json: bool,
) -> None:
    """Start the endpoint NAME with the version that answered last; it stays until `orchestrator down`."""
    require_endpoint(storage, name)
    if share:
        require_endpoint(storage, share)
    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key go together")
    tls = Tls(str(tls_certificate), str(tls_key)) if tls_certificate and tls_key else None
    from orchestrator.cli.endpoints import bring_back

    found = bring_back(
        storage,
        name,
        port,
        lambda line: None if as_json else click.echo(line, err=True),
        ingress=ingress,
        tls=tls,
        share=share,
    )
    if as_json:
        print_json(found)
        return
    if found["port"] != found["asked_port"]:
        click.echo(f"port {found['asked_port']} is taken, using {found['port']}", err=True)
    grpc = [] if found["grpc_port"] is None else [("gRPC", f"port {found['grpc_port']}")]
    rows = [
        ("endpoint", f"{name} at {found['url']}"),
        *grpc,
        ("ingress", found["ingress"]),
        *([("replicas", f"shared with '{found['share']}'")] if found["share"] else []),
        ("version", _version(found)),
        ("token", found["token_file"]),
    ]
    click.echo(block(rows))
    if found["curl"]:
        click.echo(f"\n{found['curl']}")
    click.echo(f"\nit runs until: {pasted('down', storage=storage)}", err=True)


def _version(found: dict[str, Any]) -> str:
    if found["version"] is None:
        return "none yet: no model was promoted"
    return f"{found['version']} (study {found['study']}, trial {found['trial']}, step {found['step']})"


def require_endpoint(storage: AnyStorage, name: str) -> None:
    """Raises InvalidInput where the storage has no endpoint of that name; the nearest is named."""
    known = known_endpoints(storage)
    if name not in known:
        there = f"there: {', '.join(known)}" if known else "there are none"
        raise InvalidInput(
            f"no endpoint '{name}' on {storage}; {there}.{did_you_mean(name, known)} A study with `serve` makes one"
        )


@click.command()
@click.argument("name")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@storage_option
@json_option
def predict(name: str, file: Path, storage: AnyStorage, as_json: bool) -> None:
    """Send the rows of FILE (.json, .jsonl or .csv; - for JSON from stdin) to the endpoint NAME."""
    require_endpoint(storage, name)
    from orchestrator.cli.asking import ask_rows
    from orchestrator.cli.rows import read_rows

    answers = ask_rows(storage, name, read_rows(file))
    if as_json:
        print_json(answers)
        return
    lines = [
        [str(i), str(answer), number(max(shares)) if shares else ""]
        for i, (answer, shares) in enumerate(
            zip(answers["predictions"], answers["probabilities"] or [None] * len(answers["predictions"]), strict=True)
        )
    ]
    click.echo(
        table(["ROW", "PREDICTION", "PROBABILITY"] if answers["probabilities"] else ["ROW", "PREDICTION", ""], lines)
    )
    click.echo(f"version {answers['version']} (study {answers['study']}, trial {answers['trial']})", err=True)

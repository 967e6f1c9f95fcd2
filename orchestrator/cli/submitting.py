"""`submit`: sends a study file and the directory that it stands in to a cluster's job server, and watches it there."""

import hashlib
import os
from pathlib import Path
from typing import Any

import click

from orchestrator.api.study_file import read_study_file
from orchestrator.cli.options import STORAGE_VARIABLE, job_server_options, json_option
from orchestrator.cli.printing import print_json
from orchestrator.domain.errors import InvalidInput, StudyBusy


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@job_server_options
@click.option(
    "--storage",
    envvar=STORAGE_VARIABLE,
    show_envvar=True,
    help="Where the cluster keeps the study: a directory that all of its hosts see; else as the file says.",
)
@click.option(
    "--working-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="What goes along, and is the current directory there; else the directory of FILE.",
)
@click.option("--trials", type=int, help="How many trials in all.")
@click.option("--time", help='How long in all, such as 90s or "10m".')
@click.option("--serve-host", help="Where the endpoint listens; 0.0.0.0 for whoever reaches the head.")
@click.option("--no-wait", is_flag=True, help="Only send it.")
@json_option
def submit(file: Path, address: str, token_file: Path | None, no_wait: bool, as_json: bool, **given: Any) -> int:
    """Send the study that FILE describes to the cluster at --address; the same command again watches it.

    Ctrl-C leaves the study running.
    """
    from orchestrator.cli.attending import how_to_go_on, watch
    from orchestrator.process_graph.job_address import cluster_token
    from orchestrator.process_graph.jobs import JobServer
    from orchestrator.process_graph.packing import packed

    directory = (given["working_dir"] or file.parent).resolve()
    specification = read_study_file(file, _changes(given))
    words = _words(_inside(file, directory), _storage(specification.storage), given)
    server = JobServer(address, cluster_token(token_file))
    with packed(directory) as package:
        source = hashlib.sha256("\0".join([package.sha256, *words]).encode()).hexdigest()
        running = [job for job in server.of_study(specification.study) if job.is_active]
        if running and running[0].source != source:
            raise StudyBusy(
                f"a study '{specification.study}' runs already on this cluster, made of another file or with other "
                f"options (job {running[0].id}). {how_to_go_on(server, running[0])}\nor give this one another name"
            )
        if running:
            job = running[0]
            click.echo(f"study '{job.study}' runs already, as job {job.id}; watching it", err=True)
        else:
            job = server.submit(
                specification.study,
                _storage(specification.storage),
                words + (["--json"] if as_json else []),
                package=package,
                source=source,
            )
            click.echo(f"study '{job.study}' is job {job.id} on {address}", err=True)
    if not no_wait:
        return watch(server, job, as_json=as_json)
    if as_json:
        print_json({"study": job.study, "job": job.id, "address": server.address, "storage": job.storage})
    else:
        click.echo(how_to_go_on(server, job))
    return 0


def _changes(given: dict[str, Any]) -> dict[str, Any]:
    """Returns what the flags change, in the shape of a study file."""
    budget = {key: given[key] for key in ("trials", "time") if given[key] is not None}
    changes: dict[str, Any] = {"budget": budget} if budget else {}
    if given["storage"] is not None:
        changes["storage"] = given["storage"]
    if given["serve_host"] is not None:
        changes["serve"] = {"host": given["serve_host"]}
    return changes


def _words(file: Path, storage: str, given: dict[str, Any]) -> list[str]:
    words = ["orchestrator", "run", str(file), "--address", "auto", "--storage", storage]
    for key in ("trials", "time", "serve_host"):
        if given[key] is not None:
            words += [f"--{key.replace('_', '-')}", str(given[key])]
    return words


def _inside(file: Path, directory: Path) -> Path:
    """Returns the study file's path below the directory that is sent."""
    try:
        return file.resolve().relative_to(directory)
    except ValueError:
        raise InvalidInput(
            f"study file {file} lies outside of {directory}, which is what goes to the cluster; "
            "give --working-dir a directory above it"
        ) from None


def _storage(given: str) -> str:
    """Returns the storage as the cluster is to take it.

    Raises:
        InvalidInput: it says nothing to another host.
    """
    if "://" not in given and not os.path.isabs(os.path.expanduser(given)):
        raise InvalidInput(
            f"storage: given {given!r}, which is another place on each host; give --storage an absolute path that "
            "every host of the cluster sees"
        )
    return given

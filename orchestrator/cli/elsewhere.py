"""Runs a command of ours inside a cluster, for one that is given outside of it. Importing this loads Ray."""

from collections.abc import Sequence
from pathlib import Path

import click

from orchestrator.domain.errors import UnknownStudy
from orchestrator.journal import AnyStorage
from orchestrator.process_graph.job_address import cluster_token
from orchestrator.process_graph.jobs import JobServer


def run_there(
    address: str,
    token_file: Path | None,
    study: str,
    words: Sequence[str],
    *,
    storage: AnyStorage | None,
    as_json: bool,
) -> int:
    """Runs `orchestrator WORDS` about a study on the cluster's head; shows what it wrote, returns its exit code.

    Args:
        address: of the cluster's job server.
        token_file: with the token that guards it.
        study: that was submitted there.
        words: the command and its arguments.
        storage: where the study is kept; None for the one with which it was submitted.
        as_json: whether the command is to print JSON.
    """
    server = JobServer(address, cluster_token(token_file))
    if storage is None:
        jobs = server.of_study(study)
        if not jobs:
            raise UnknownStudy(f"no study '{study}' was submitted to the cluster at {server.address}; give --storage")
        storage = jobs[0].storage
    json_word = ["--json"] if as_json else []
    code, wrote = server.ask(["orchestrator", *words, "--storage", str(storage), "--address", "auto", *json_word])
    click.echo(wrote, nl=False, err=code != 0)
    return code

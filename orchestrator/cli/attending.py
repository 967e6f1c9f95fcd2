"""`attach` and `logs`: what a submitted study does and says, watched from outside the cluster. Importing loads Ray."""

import json
from pathlib import Path
from typing import Any

import click

from orchestrator.cli.options import job_server_options, json_option
from orchestrator.cli.pasting import pasted
from orchestrator.cli.printing import print_json
from orchestrator.domain.errors import UnknownStudy
from orchestrator.process_graph.job_address import cluster_token
from orchestrator.process_graph.job_following import follow
from orchestrator.process_graph.jobs import Job, JobServer, exit_code

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
KILLED = 128  # exit codes above it are of processes that a signal ended


@click.command()
@click.argument("study")
@job_server_options
@json_option
def attach(study: str, address: str, token_file: Path | None, as_json: bool) -> int:
    """Watch STUDY, which was submitted to the cluster at --address, until it ends; Ctrl-C leaves it running."""
    server = JobServer(address, cluster_token(token_file))
    jobs = server.of_study(study)
    if not jobs:
        raise UnknownStudy(f"no study '{study}' was submitted to the cluster at {server.address}; `submit` does that")
    job = jobs[0]
    if not job.is_active and _was_cut_off(job):
        words = ["orchestrator", "resume", study, "--address", "auto", "--storage", job.storage]
        words += ["--json"] if as_json else []
        click.echo(f"the command that watched it in the cluster is gone ({job.id}); going on by another", err=True)
        job = server.submit(study, job.storage, words, runtime_env=job.runtime_env, source=job.source)
    return watch(server, job, as_json=as_json)


@click.command()
@click.argument("name", metavar="STUDY|JOB")
@job_server_options
@click.option("--follow", "-f", "follows", is_flag=True, help="Wait for more, until it ends.")
def logs(name: str, address: str, token_file: Path | None, follows: bool) -> int:
    """Show what a study that was submitted, or a job, wrote in the cluster at --address."""
    server = JobServer(address, cluster_token(token_file))
    job = server.find(name)
    if not follows:
        click.echo(server.logs(job), nl=False)
        return 0
    try:
        follow(server, job, lambda words: click.echo(words, nl=False), _tell)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def watch(server: JobServer, job: Job, *, as_json: bool) -> int:
    """Shows how the job goes until it ends; returns its exit code. An interrupt ends the watching alone."""
    lines = _Lines(as_json)
    try:
        ended = follow(server, job, lines.hear, _tell)
    except KeyboardInterrupt:
        _tell(f"\nthe study goes on by itself.\n{how_to_go_on(server, job)}")
        return INTERRUPTED
    code = exit_code(ended)
    if as_json:
        print_json({"study": job.study, "job": job.id, "exit_code": code, "summary": lines.result()})
    elif code and _was_cut_off(ended):
        _tell(
            f"job {job.id} ended before its study did ({_first_line(ended.message)}); the study goes on where its "
            f"actors live: {pasted('attach', job.study, '--address', server.address)}"
        )
    return code


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[0]


def how_to_go_on(server: JobServer, job: Job) -> str:
    """Returns the commands that one needs after having left."""
    there = (job.study, "--address", server.address)
    return f"watch it:  {pasted('attach', *there)}\nend it:    {pasted('stop', *there)}"


class _Lines:
    """What a run writes: lines for people at once; with `--json` the result, which comes last, is kept."""

    def __init__(self, keeps_result: bool) -> None:
        self._keeps_result = keeps_result
        self._result: list[str] = []
        self._rest = ""  # a line whose end has not come yet

    def hear(self, words: str) -> None:
        if not self._keeps_result:
            click.echo(words, nl=False)
            return
        *whole, self._rest = (self._rest + words).split("\n")
        for line in whole:
            if line == "{" or self._result:
                self._result.append(line)
            else:
                _tell(line)

    def result(self) -> Any:
        """Returns the run's result; None where it came to none."""
        try:
            return json.loads("\n".join([*self._result, self._rest]))
        except ValueError:
            return None


def _was_cut_off(job: Job) -> bool:
    """Returns whether the job's process was ended, rather than having come to its own end."""
    code = job.exit_code
    return job.status != "SUCCEEDED" and (code is None or code < 0 or code > KILLED)


def _tell(line: str) -> None:
    click.echo(line, err=True)

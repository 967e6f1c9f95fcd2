"""`run` and `resume`: their options; what follows is in `course`."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from orchestrator.api.study_file import read_study_file
from orchestrator.cli.course import Choices, Course
from orchestrator.cli.debugging import debug_one_trial
from orchestrator.cli.options import DEFAULT_STORAGE, STORAGE_VARIABLE, json_option, storage_option
from orchestrator.cli.pasting import pasted
from orchestrator.domain.specification import EXECUTIONS, StudySpecification
from orchestrator.journal import AnyStorage, Storage
from orchestrator.study import read_study


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trials", type=int, help="How many trials in all.")
@click.option("--time", help='How long in all, such as 90s or "10m".')
@click.option("--execution", type=click.Choice(EXECUTIONS), help="How trials are run.")
@click.option(
    "--storage",
    envvar=STORAGE_VARIABLE,
    show_envvar=True,
    help=f"Where the study is kept; else as the file says, or {DEFAULT_STORAGE}.",
)
@click.option("--seed", type=int, help="Of everything random.")
@click.option("--address", help="Of a running Ray cluster; without it Ray is started on this machine.")
@click.option("--serve-host", help="Where the endpoint listens; 0.0.0.0 for whoever reaches the host.")
@click.option("--fresh", is_flag=True, help="Begin anew; what there is of the study is set aside.")
@click.option("--again", is_flag=True, help="Begin anew if the study has ended, else resume it.")
@click.option("--traffic", is_flag=True, help="Send requests to the endpoint while the study runs.")
@click.option("--keep", is_flag=True, help="Leave Ray and the endpoint running at the end.")
@click.option("--debug", is_flag=True, help="One trial in this process, without Ray; for debuggers.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@json_option
@click.pass_context
def run(ctx: click.Context, /, file: Path, **given: Any) -> int:
    """Run the study that FILE describes to its end; the same command again resumes it or attaches to it.

    Flags override the file.
    """
    specification = _absolute(read_study_file(file, _changes(given)))
    if given["debug"]:
        return debug_one_trial(specification)
    return Course(specification, _choices(given, command_again(ctx, without=("fresh",)))).run()


@click.command()
@click.argument("study")
@storage_option
@click.option("--address", help="Of a running Ray cluster; without it Ray is started on this machine.")
@click.option("--traffic", is_flag=True, help="Send requests to the endpoint while the study runs.")
@click.option("--keep", is_flag=True, help="Leave Ray and the endpoint running at the end.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
@json_option
@click.pass_context
def resume(ctx: click.Context, /, study: str, storage: AnyStorage, **given: Any) -> int:
    """Go on with STUDY as it was asked for; attaches to it where it still runs."""
    specification = read_study(storage, study).specification.with_changes(storage=str(storage))
    return Course(specification, _choices(given, command_again(ctx))).run()


def _changes(given: dict[str, Any]) -> dict[str, Any]:
    """Returns what the flags change, in the shape of a study file."""
    budget = {key: given[key] for key in ("trials", "time") if given[key] is not None}
    changes = {key: given[key] for key in ("execution", "storage", "seed") if given[key] is not None}
    if given["serve_host"] is not None:
        changes["serve"] = {"host": given["serve_host"]}
    return changes | ({"budget": budget} if budget else {})


def _absolute(specification: StudySpecification) -> StudySpecification:
    changes: dict[str, Any] = {"storage": Storage.of(specification.storage).uri}
    if specification.serve is not None and specification.serve.tls is not None:
        certificate, key = specification.serve.tls
        changes["serve"] = {"tls": {"certificate": str(Path(certificate).resolve()), "key": str(Path(key).resolve())}}
    return specification.with_changes(**changes)


def _choices(given: dict[str, Any], again: str) -> Choices:
    return Choices(
        command=again,
        address=given["address"],
        fresh=given.get("fresh", False),
        again=given.get("again", False),
        traffic=given["traffic"],
        keep=given["keep"],
        quiet=given["quiet"],
        as_json=given["as_json"],
    )


def command_again(ctx: click.Context, without: tuple[str, ...] = ()) -> str:
    """Returns the command line that was given, fit to be pasted."""
    words = [str(ctx.info_name)]
    for parameter in ctx.command.params:
        name, value = parameter.name or "", ctx.params.get(parameter.name or "")
        if name in without or ctx.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        is_option = isinstance(parameter, click.Option)
        words += [parameter.opts[0]] if is_option else []
        words += [] if is_option and value is True else [str(value)]
    return pasted(*words)

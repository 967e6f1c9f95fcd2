"""The program `orchestrator`: finds the command, runs it, and says in one line what went wrong.

A command's module is imported when the command is called, so that help and a look at a finished study load neither
Ray nor torch.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

import click

from orchestrator.domain.errors import OrchestratorError, did_you_mean

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
HELP_NAMES = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

# name -> (module in this room, attribute, the line that `--help` shows without loading the module)
COMMANDS = {
    "run": ("run", "run", "Run a study file to its end; the same command again resumes."),
    "resume": ("run", "resume", "Go on with a study that was interrupted or stopped."),
    "submit": ("submitting", "submit", "Send a study and its code to a cluster, and watch it there."),
    "attach": ("attending", "attach", "Watch a study that was submitted to a cluster."),
    "logs": ("attending", "logs", "Show what a study or a job in a cluster wrote."),
    "extend": ("changing", "extend", "Give a study more trials or time."),
    "stop": ("stopping", "stop", "End a running study; what it found stays."),
    "down": ("stopping", "down", "End an endpoint, or everything of ours on a storage."),
    "status": ("status", "status", "Say where a study stands, or draw what runs (--graph)."),
    "ls": ("looking", "ls", "List the studies on a storage."),
    "best": ("looking", "best", "Show a study's best configuration."),
    "show": ("looking", "show", "Show everything about one trial."),
    "serve": ("serving", "serve", "Bring an endpoint back; it stays until `down`."),
    "predict": ("serving", "predict", "Send rows of a JSON or CSV file to an endpoint."),
    "promote": ("by_hand", "promote", "Let an endpoint answer with a version, whatever stage it is at."),
    "rollback": ("by_hand", "rollback", "Withdraw a challenger, or answer with an earlier version again."),
    "freeze": ("by_hand", "freeze", "Let nothing change at an endpoint by itself."),
    "unfreeze": ("by_hand", "unfreeze", "Let an endpoint change by itself again."),
    "history": ("history", "history", "Say which version answered when, who changed it, and why."),
    "drift": ("drifting", "drift", "Compare an endpoint's requests with its model's training data."),
    "token": ("token", "token", "Make, list, rotate and revoke an endpoint's bearer tokens."),
    "audit": ("auditing", "audit", "List who did what at an endpoint, and who was refused."),
    "metrics": ("numbers", "metrics", "Show the numbers of an endpoint's replicas."),
    "export": ("exporting", "export", "Write an endpoint's model for another server."),
    "verify": ("verifying", "verify", "Check that a study keeps its laws, whatever was killed."),
    "check": ("checking", "check", "Try a study file in seconds; writes nothing."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the names, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Returns the command; None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"orchestrator.cli.{module}"), attribute)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Returns the command that the arguments name; a mistyped one is told the nearest."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"there is no command '{args[0]}'.{did_you_mean(args[0], COMMANDS)} See `orchestrator --help`")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands without loading any of them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings=HELP_NAMES)
@click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")
@click.version_option(package_name="orchestrator")
def program(debug: bool) -> None:
    """From a dataset and a search space to a live endpoint that keeps getting better."""


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # dotted paths of the user's own modules
    sys.exit(execute(sys.argv[1:]))


def execute(arguments: Sequence[str]) -> int:
    """Returns the exit code of a command line; every error is one line on stderr."""
    try:
        code = program.main(list(arguments), prog_name="orchestrator", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        return _complain(_with_usage(error), error.exit_code)
    except OrchestratorError as error:
        return _complain(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of a pipe went away: `orchestrator ls | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:  # noqa: BLE001 - the process's edge
        return _unexpected(error, wants_traceback="--debug" in arguments)


def _with_usage(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".")
    return f"{message}; `{context.command_path} --help` says what it takes" if context else message


def _unexpected(error: Exception, *, wants_traceback: bool) -> int:
    if wants_traceback:
        traceback.print_exception(error)
    first = (str(error).strip().splitlines() or ["no message"])[0]
    hint = "" if wants_traceback else "; the same command with --debug shows where"
    return _complain(f"unexpected {type(error).__name__}: {first}{hint}", 1)


def _complain(message: str, code: int) -> int:
    click.echo(f"error: {message}", err=True)
    return code

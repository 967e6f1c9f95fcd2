"""`token`: who may ask an endpoint for what, and until when. It needs the endpoint's storage, not Ray.

Replicas look at the storage: what is changed here holds within a second (in an object store within about three).
"""

import os
import pwd
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from deploy.access.audit import DONE, AuditLog, Entry, now_text
from deploy.access.named_tokens import OWNER, NamedToken, TokenScope
from deploy.access.private_files import write_private
from deploy.access.token_book import TokenBook
from orchestrator.cli.options import json_option, storage_option
from orchestrator.cli.printing import NOTHING, print_json, table
from orchestrator.cli.serving import require_endpoint
from orchestrator.domain.errors import InvalidInput, StorageError
from orchestrator.domain.sections import parse_seconds
from orchestrator.journal import AnyStorage

LONGEST = timedelta(days=36525)
DEFAULT_OVERLAP = "1h"  # for whoever has the former secret to fetch the next one

file_option = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the secret to this file, which its owner alone can read, instead of showing it.",
)
expires_option = click.option("--expires", help='How long it is to last, such as "30d" or "12h"; else for ever.')


@click.group()
def token() -> None:
    """Make, list, rotate and revoke the bearer tokens of an endpoint. Replicas need no restart."""


@token.command()
@click.argument("name")
@click.argument("token_name", metavar="TOKEN")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in TokenScope]),
    default=[TokenScope.PREDICT.value],
    show_default=True,
    help="What it opens; may be given several times.",
)
@expires_option
@file_option
@storage_option
@json_option
def add(
    name: str,
    token_name: str,
    scopes: tuple[str, ...],
    expires: str | None,
    path: Path | None,
    storage: AnyStorage,
    as_json: bool,
) -> None:
    """Make a token called TOKEN for the endpoint NAME, and show its secret: now, and never again."""
    require_endpoint(storage, name)
    _check_new(path)
    now, book = _now(), TokenBook(storage, name)
    ends = _end(now, expires)
    secret = book.add(token_name, frozenset(map(TokenScope, scopes)), ends, now)
    _audit(storage, name, f"token add {token_name}", f"{' '.join(sorted(scopes))}, {_lasting(ends)}")
    _hand_over(name, _found(book, token_name), secret, path, as_json)


@token.command()
@click.argument("name")
@click.argument("token_name", metavar="TOKEN")
@click.option(
    "--overlap",
    default=DEFAULT_OVERLAP,
    show_default=True,
    help='How long the former secret opens beside the new one; "0" for not at all.',
)
@expires_option
@file_option
@storage_option
@json_option
def rotate(
    name: str,
    token_name: str,
    overlap: str,
    expires: str | None,
    path: Path | None,
    storage: AnyStorage,
    as_json: bool,
) -> None:
    """Give TOKEN of the endpoint NAME another secret; `owner` is the endpoint's own, in its file.

    Without --expires it ends when it would have.
    """
    require_endpoint(storage, name)
    _check_new(path)
    now, book = _now(), TokenBook(storage, name)
    beside = timedelta(0) if overlap.strip() == "0" else _span("--overlap", overlap)
    ends = _end(now, expires)
    secret = book.rotate(token_name, ends, now, beside)
    _audit(storage, name, f"token rotate {token_name}", f"overlap {overlap}" + (f", {_lasting(ends)}" if ends else ""))
    _hand_over(name, _found(book, token_name), secret, path, as_json)


@token.command()
@click.argument("name")
@click.argument("token_name", metavar="TOKEN")
@storage_option
@json_option
def revoke(name: str, token_name: str, storage: AnyStorage, as_json: bool) -> None:
    """Let TOKEN of the endpoint NAME open nothing any more, its former secrets neither."""
    require_endpoint(storage, name)
    TokenBook(storage, name).revoke(token_name, _now())
    _audit(storage, name, f"token revoke {token_name}", "")
    if as_json:
        print_json({"endpoint": name, "token": token_name, "state": "revoked"})
    else:
        click.echo(f"token '{token_name}' of endpoint '{name}' is revoked")


@token.command(name="list")
@click.argument("name")
@storage_option
@json_option
def list_(name: str, storage: AnyStorage, as_json: bool) -> None:
    """List the tokens of the endpoint NAME, revoked ones too; secrets are kept nowhere."""
    require_endpoint(storage, name)
    now = _now()
    tokens = [each for each in TokenBook(storage, name).read() if each.name != OWNER]
    if as_json:
        own = {"token": OWNER, "scopes": sorted(TokenScope), "expires": None, "state": "valid"}
        print_json([own, *(_plain(each, now) for each in tokens)])
        return
    rows = [[OWNER, " ".join(sorted(TokenScope)), "valid", NOTHING, NOTHING]]
    rows += [
        [each.name, " ".join(sorted(each.scopes)), each.state(now), _shown(each.expires), _shown(each.made)]
        for each in tokens
    ]
    click.echo(table(["TOKEN", "SCOPES", "STATE", "UNTIL", "MADE"], rows))


def _hand_over(name: str, made: NamedToken, secret: str, path: Path | None, as_json: bool) -> None:
    """Gives the secret to who asked for it: alone on the standard output, so that a shell can keep it."""
    if path is not None:
        try:
            write_private(path.absolute(), f"{secret}\n".encode())
        except OSError as error:
            raise StorageError(
                f"the token '{made.name}' is changed and its secret cannot be written to {path} ({error.strerror}); "
                "rotate it, and give a file that can be written"
            ) from error
    if as_json:
        where = {"secret": secret} if path is None else {"file": str(path.absolute())}
        print_json({"endpoint": name, **_plain(made, made.made), **where})
        return
    click.echo(
        f"token '{made.name}' of endpoint '{name}' opens {', '.join(sorted(made.scopes))} and {_lasting(made.expires)}"
        + ("; this is its secret, which is kept nowhere else:" if path is None else f"; its secret is in {path}"),
        err=True,
    )
    if path is None:
        click.echo(secret)


def _audit(storage: AnyStorage, name: str, what: str, detail: str) -> None:
    """Writes a change into the audit log; it was made, so that a log that cannot be written does not fail it."""
    entry = Entry(now_text(), _user(), what, DONE, socket.gethostname(), detail)
    try:
        AuditLog(storage, name).append([entry])
    except StorageError as error:
        click.echo(f"warning: {error}; the token is changed all the same", err=True)


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container that has no such user
        return f"uid {os.getuid()}"


def _lasting(ends: datetime | None) -> str:
    return "never ends" if ends is None else f"ends at {_shown(ends)}"


def _check_new(path: Path | None) -> None:
    """Raises InvalidInput where no secret could be written, before anything is changed."""
    if path is not None and not os.access(path.absolute().parent, os.W_OK):
        raise InvalidInput(f"--file {path}: there is no folder {path.absolute().parent} that can be written to")


def _found(book: TokenBook, name: str) -> NamedToken:
    return next(each for each in book.read() if each.name == name)


def _plain(each: NamedToken, now: datetime) -> dict[str, Any]:
    """Returns a token as data, without even the hashes of its secrets."""
    return {
        "token": each.name,
        "scopes": sorted(each.scopes),
        "expires": None if each.expires is None else each.expires.isoformat(),
        "state": each.state(now),
        "made": each.made.isoformat(),
        "former_until": [old.until.isoformat() for old in each.secrets if old.until is not None and old.until > now],
    }


def _end(now: datetime, expires: str | None) -> datetime | None:
    return None if expires is None else now + _span("--expires", expires)


def _span(option: str, text: str) -> timedelta:
    seconds = parse_seconds(option, text)
    if seconds > LONGEST.total_seconds():
        raise InvalidInput(f"{option} takes at most a hundred years; {text} was given")
    return timedelta(seconds=seconds)


def _shown(moment: datetime | None) -> str:
    return NOTHING if moment is None else moment.isoformat(timespec="seconds")


def _now() -> datetime:
    return datetime.now(UTC)

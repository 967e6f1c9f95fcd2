"""An endpoint's named tokens on its storage: one file a token and revision, `tokens/<name>.<revision>.json`.

A change makes the next revision's file, which must be new, and then takes the former one away: a listing shows replicas
that something changed, and a change never undoes another one. On a disk changes wait for each other, and only the owner
may read the files. In an object store of two changes of a token at once one is refused, and whoever may read the bucket
may read the files: they hold hashes alone.
"""

import fcntl
import json
import logging
import os
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from deploy.access.named_tokens import OWNER, NamedToken, Secret, TokenScope
from deploy.access.private_files import OWNER_ONLY, OWNER_ONLY_FOLDER, write_private
from deploy.access.tokens import TOKEN_BYTES, replace_token, token_of
from deploy.places import endpoint_place
from orchestrator.domain.errors import EndpointError, InvalidInput, StorageError, did_you_mean
from orchestrator.journal import AnyStorage

logger = logging.getLogger(__name__)

FOLDER = "tokens"
LOCK = ".lock"
_FILE = re.compile(r"(?P<name>[A-Za-z0-9_-]+)\.(?P<revision>[0-9]{1,12})\.json")


class TokenBook:
    """Reads and changes the named tokens of one endpoint. Any number of them may be at work, in any process."""

    def __init__(self, storage: AnyStorage, name: str) -> None:
        self._storage = storage
        self._endpoint = name
        self._place = endpoint_place(storage, name).child(FOLDER)

    def read(self) -> list[NamedToken]:
        """Returns all tokens that were ever made, by name; a file that cannot be understood is passed over and logged.

        Raises:
            StorageError: the storage cannot be read.
        """
        found = []
        for name, revision in sorted(newest(self._place.sizes()).items()):
            data = self._place.find(_file(name, revision))  # None: changed since it was listed; the next look sees it
            if data is not None:
                token = _parsed(data, name, revision)
                found += [] if token is None else [token]
        return found

    def add(self, name: str, scopes: Iterable[TokenScope], expires: datetime | None, now: datetime) -> str:
        """Makes a token and returns its secret, which is kept nowhere.

        Raises:
            InvalidInput: there is one of that name, or what was given cannot be.
            StorageError: the storage cannot be written.
        """
        with self._changing():
            return self._add(name, scopes, expires, now)

    def _add(self, name: str, scopes: Iterable[TokenScope], expires: datetime | None, now: datetime) -> str:
        before = self._find(name)
        if name == OWNER or (before is not None and not before.is_revoked):
            raise InvalidInput(
                f"endpoint '{self._endpoint}' has a token '{name}'; rotate or revoke it, or take another name"
            )
        secret = secrets.token_urlsafe(TOKEN_BYTES)
        revision = 1 if before is None else before.revision + 1
        self._put(NamedToken(name, frozenset(scopes), expires, now, (Secret.of(secret),), revision))
        return secret

    def rotate(self, name: str, expires: datetime | None, now: datetime, overlap: timedelta) -> str:
        """Gives a token another secret and returns that; the one before opens for the overlap.

        The endpoint's own token is rotated in its file too, and has no expiry.

        Raises:
            InvalidInput: there is none, or it was revoked or has expired and no new expiry was given.
            StorageError: the storage cannot be written.
        """
        with self._changing():
            return self._rotate(name, expires, now, overlap)

    def _rotate(self, name: str, expires: datetime | None, now: datetime, overlap: timedelta) -> str:
        secret = secrets.token_urlsafe(TOKEN_BYTES)
        if name == OWNER:
            if expires is not None:
                raise InvalidInput(f"the token '{OWNER}' never expires: whoever starts the endpoint has it")
            before = self._find(OWNER) or NamedToken(OWNER, frozenset(TokenScope), None, now, (), 0)
            present = Secret.of(token_of(self._storage, self._endpoint))
            if present not in before.secrets:
                before = _with_present(before, present)
        else:
            before = self._known(name)
        self._put(before.rotated(Secret.of(secret), expires, now, overlap))
        if name == OWNER:
            replace_token(self._storage, self._endpoint, secret)  # second: by now replicas may know both
        return secret

    def revoke(self, name: str, now: datetime) -> None:
        """Lets a token open nothing any more, its former secrets neither.

        Raises:
            InvalidInput: there is none, or it was revoked before, or it is the endpoint's own.
            StorageError: the storage cannot be written.
        """
        if name == OWNER:
            raise InvalidInput(f"the token '{OWNER}' cannot be revoked: the program itself uses it; rotate it")
        with self._changing():
            self._put(self._known(name).revoked(now))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Lets one change of an endpoint's tokens be made at a time, where the storage is a disk."""
        if not self._place.is_local:
            yield
            return
        path = self._place.local_path / LOCK
        try:
            path.parent.mkdir(mode=OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, OWNER_ONLY)
        except OSError as error:
            raise StorageError(f"{path} cannot be written ({error.strerror})") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)  # and with it the lock is given back

    def _find(self, name: str) -> NamedToken | None:
        while True:
            revision = newest(self._place.sizes()).get(name)
            if revision is None:
                return None
            data = self._place.find(_file(name, revision))
            if data is not None:  # else somebody changed it since the listing: there is a later one
                return _parsed(data, name, revision)

    def _known(self, name: str) -> NamedToken:
        token = self._find(name)
        if token is None:
            there = [OWNER, *(token.name for token in self.read() if not token.is_revoked and token.name != OWNER)]
            raise InvalidInput(
                f"endpoint '{self._endpoint}' has no token '{name}'; there: {', '.join(there)}."
                f"{did_you_mean(name, there)}"
            )
        return token

    def _put(self, token: NamedToken) -> None:
        """Publishes a revision, then takes away the ones before it."""
        file, data = _file(token.name, token.revision), json.dumps(token.to_dict(), indent=1).encode()
        try:
            if self._place.is_local:
                write_private(self._place.local_path / file, data, is_new=True)
            else:
                self._place.write_new(file, data)
        except FileExistsError:
            raise self._too_late(token) from None
        except StorageError as error:
            if isinstance(error.__cause__, FileExistsError):
                raise self._too_late(token) from None
            raise
        except OSError as error:
            raise StorageError(f"the token '{token.name}' cannot be written to {self._place} ({error})") from error
        files = list(self._place.sizes())
        if (
            newest(files)[token.name] > token.revision
        ):  # its name was free because a later one had taken it away already
            self._place.delete(file)
            raise self._too_late(token)
        for name in files:
            known = _FILE.fullmatch(name)
            if known is not None and known["name"] == token.name and int(known["revision"]) < token.revision:
                self._place.delete(name)

    def _too_late(self, token: NamedToken) -> EndpointError:
        return EndpointError(
            f"the token '{token.name}' was changed by somebody else meanwhile; look at it, then ask again"
        )


def newest(files: Iterable[str]) -> dict[str, int]:
    """Returns the latest revision of each token, by the names of the files."""
    found: dict[str, int] = {}
    for name in files:
        known = _FILE.fullmatch(name)
        if known is not None:
            found[known["name"]] = max(found.get(known["name"], 0), int(known["revision"]))
    return found


def _with_present(before: NamedToken, present: Secret) -> NamedToken:
    """Returns the owner's token with the secret that its file holds, which somebody put there by hand."""
    return NamedToken(
        before.name, before.scopes, before.expires, before.made, (present, *before.secrets), before.revision
    )


def _file(name: str, revision: int) -> str:
    return f"{name}.{revision:06d}.json"


def _parsed(data: bytes, name: str, revision: int) -> NamedToken | None:
    try:
        token = NamedToken.from_dict(json.loads(data))
    except (ValueError, KeyError, TypeError, InvalidInput) as error:
        logger.warning("The token '%s' cannot be read and opens nothing: %s", name, error)
        return None
    return token if (token.name, token.revision) == (name, revision) else None

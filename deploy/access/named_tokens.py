"""The words of access: what a token may do, until when, and how one follows from another. Pure: the time comes in.

Of a named token only the SHA-256 of its secret is kept. That is enough because a secret is 32 random bytes: nobody
guesses one, so a slow hash as for people's passwords would only slow down requests.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from orchestrator.domain.errors import InvalidInput

FORMAT = 1
OWNER = "owner"  # the name of the endpoint's own token, which may do everything
MOST_FORMER = 8  # secrets of a token that are kept: a loop that rotates must not fill the memory
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


class TokenScope(StrEnum):
    """What a token opens: the model, the numbers about it, the decisions."""

    PREDICT = "predict"
    METRICS = "metrics"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Secret:
    """One secret of a token, by its SHA-256 in hexadecimal; it opens until `until` (None: as long as its token)."""

    sha256: str
    until: datetime | None = None

    @classmethod
    def of(cls, text: str) -> "Secret":
        """Returns what is kept of a secret."""
        return cls(hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class NamedToken:
    """A token at one revision; each change of it makes the next one. A revoked one has no secrets any more.

    `expires` None: never. The newest secret is first; those behind it are former ones in their overlap, or past it.

    Raises:
        InvalidInput: its name cannot be one, or it opens nothing.
    """

    name: str
    scopes: frozenset[TokenScope]
    expires: datetime | None
    made: datetime
    secrets: tuple[Secret, ...]
    revision: int = 1
    is_revoked: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise InvalidInput(
                f"the token's name {self.name!r} cannot be used: take letters, digits, '_' and '-', at most 64, a "
                "letter or digit first"
            )
        if not self.scopes:
            raise InvalidInput(f"the token '{self.name}' would open nothing; give a scope: {', '.join(TokenScope)}")

    def rotated(self, secret: Secret, expires: datetime | None, now: datetime, overlap: timedelta) -> "NamedToken":
        """Returns the token with another secret, beside which the one before opens for the overlap.

        Raises:
            InvalidInput: it was revoked, or it would be expired.
        """
        ends = self.expires if expires is None else expires
        replace(self, expires=ends).check_alive(now)
        end = now + overlap
        former = [
            old if old.until is not None and old.until <= end else replace(old, until=end) for old in self.secrets
        ]
        kept = former[:MOST_FORMER]  # those past their overlap too: their refusal says that they ended
        return replace(self, secrets=(secret, *kept), expires=ends, revision=self.revision + 1)

    def revoked(self, now: datetime) -> "NamedToken":
        """Returns the token as what opens nothing any more; `expires` says since when.

        Raises:
            InvalidInput: it was revoked before.
        """
        if self.is_revoked:
            raise InvalidInput(f"the token '{self.name}' was revoked at {self.expires}")
        return replace(self, secrets=(), expires=now, revision=self.revision + 1, is_revoked=True)

    def check_alive(self, at: datetime) -> None:
        """Raises InvalidInput where it was revoked, or has expired at a time."""
        if self.is_revoked:
            raise InvalidInput(f"the token '{self.name}' was revoked at {self.expires}; add it anew")
        if self.expires is not None and self.expires <= at:
            raise InvalidInput(
                f"the token '{self.name}' expired at {self.expires}; give --expires, how long it is to last"
            )

    def state(self, now: datetime) -> str:
        """Returns `valid`, `expired` or `revoked`."""
        if self.is_revoked:
            return "revoked"
        return "expired" if self.expires is not None and self.expires <= now else "valid"

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return {
            "format": FORMAT,
            "name": self.name,
            "revision": self.revision,
            "scopes": sorted(self.scopes),
            "expires": _text(self.expires),
            "made": self.made.isoformat(),
            "revoked": self.is_revoked,
            "secrets": [{"sha256": secret.sha256, "until": _text(secret.until)} for secret in self.secrets],
        }

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "NamedToken":
        """Returns the token that `to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: it did not write that.
            InvalidInput: what it says cannot be.
        """
        if given["format"] != FORMAT:
            raise ValueError(f"format {given['format']!r} is not {FORMAT}")
        return cls(
            name=str(given["name"]),
            scopes=frozenset(TokenScope(scope) for scope in given["scopes"]),
            expires=_time(given["expires"]),
            made=datetime.fromisoformat(given["made"]),
            secrets=tuple(Secret(str(each["sha256"]), _time(each["until"])) for each in given["secrets"]),
            revision=int(given["revision"]),
            is_revoked=bool(given["revoked"]),
        )


def scopes_of(given: Iterable[str]) -> frozenset[TokenScope]:
    """Returns the scopes that words name.

    Raises:
        InvalidInput: one names none.
    """
    words = list(given)
    unknown = [word for word in words if word not in set(TokenScope)]
    if unknown:
        raise InvalidInput(f"there is no scope {unknown[0]!r}; there are {', '.join(TokenScope)}")
    return frozenset(map(TokenScope, words))


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)

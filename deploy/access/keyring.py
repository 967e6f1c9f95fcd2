"""Which bearer tokens open this replica, and what each may do: the check of every request (RFC 6750).

What is presented is hashed, then compared with every known hash in constant time. A secret that matched is remembered
by its hash alone, so that a hundred tokens cost a request what one does (1.5 µs); what does not match is never
remembered, so that nobody can fill the memory. How long that look-up takes may tell something of the hash of a
secret, from which the secret cannot be had.
"""

import hashlib
import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from deploy.access.named_tokens import OWNER, NamedToken, TokenScope
from deploy.http.asgi import Refusal

REALM = 'Bearer realm="orchestrator"'


class Denied(Refusal):
    """A request that its token does not open: why, in the words of the audit log, and whose token it was, if known."""

    def __init__(self, status: int, reason: str, challenge: str, *, why: str, who: str = "") -> None:
        super().__init__(status, reason, [(b"www-authenticate", challenge.encode())])
        self.why = why
        self.who = who


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the token's name, and what it may do."""

    name: str
    scopes: frozenset[TokenScope]

    def require(self, *scopes: TokenScope) -> None:
        """Returns where the caller has one of the scopes.

        Raises:
            Denied: 403, with the scope that is missing.
        """
        if self.scopes.isdisjoint(scopes):
            wanted = " or ".join(f"'{scope}'" for scope in scopes)
            raise Denied(
                403,
                f"The token '{self.name}' has not the scope {wanted}, which this needs; it has "
                f"{', '.join(sorted(self.scopes))}.",
                f'{REALM}, error="insufficient_scope", scope="{scopes[0]}"',
                why=f"no scope {scopes[0]}",
                who=self.name,
            )


@dataclass(frozen=True, slots=True)
class _Key:
    digest: bytes
    caller: Caller
    until: float  # seconds since 1970


@dataclass(frozen=True, slots=True)
class _Keys:
    """All keys, and those that were presented before, by their hashes; never more than there are keys."""

    all: tuple[_Key, ...]
    known: dict[bytes, _Key] = field(default_factory=dict)

    def find(self, digest: bytes) -> _Key | None:
        key = self.known.get(digest)
        if key is None:
            for each in self.all:  # all of them: when it ends says nothing of which one it was
                if hmac.compare_digest(each.digest, digest):
                    key = each
            if key is not None:
                self.known[digest] = key
        return key


class Keyring:
    """Holds the keys: `put` by whoever follows the storage, read by requests, which take the reference once."""

    def __init__(self, owner: str, tokens: Iterable[NamedToken] = (), clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._keys = _Keys(())
        self.put(owner, tokens)

    def put(self, owner: str, tokens: Iterable[NamedToken] = ()) -> None:
        """Lets these open from the next request on, and no others: the endpoint's own secret, and named tokens."""
        own = _Key(hashlib.sha256(owner.encode()).digest(), Caller(OWNER, frozenset(TokenScope)), float("inf"))
        self._keys = _Keys((*(key for token in tokens for key in _keys_of(token)), own))  # last: it is never a former

    def holder(self, presented: bytes) -> Caller | None:
        """Returns whose secret has this hash (`presented_hash`); None where nobody's has, or it has expired."""
        key = self._keys.find(presented)
        return None if key is None or key.until <= self._clock() else key.caller

    def caller(self, given: bytes | None) -> Caller:
        """Returns who presents the Authorization field `given`.

        Raises:
            Denied: 401; of an expired token it says so, of a wrong one not in what it is wrong.
        """
        presented = presented_hash(given)
        key = None if presented is None else self._keys.find(presented)
        if key is None:
            what = "a wrong token" if given else "no token"
            raise Denied(
                401,
                f"The request has {what}. Send 'Authorization: Bearer TOKEN' with a token of this endpoint.",
                REALM,
                why=what,
            )
        if key.until <= self._clock():
            at = datetime.fromtimestamp(key.until, UTC).isoformat(timespec="seconds")
            raise Denied(
                401,
                f"The token expired at {at}. Ask for another one.",
                f'{REALM}, error="invalid_token"',
                why="an expired token",
                who=key.caller.name,
            )
        return key.caller


def presented_hash(given: bytes | None) -> bytes | None:
    """Returns the hash of the secret in an Authorization field; None where there is no bearer token in it."""
    scheme, _, said = (given or b"").partition(b" ")
    return hashlib.sha256(said.strip()).digest() if scheme.lower() == b"bearer" else None


def _keys_of(token: NamedToken) -> Iterable[_Key]:
    caller = Caller(token.name, token.scopes)
    for secret in token.secrets:
        ends = [moment.timestamp() for moment in (secret.until, token.expires) if moment is not None]
        yield _Key(bytes.fromhex(secret.sha256), caller, min(ends, default=float("inf")))

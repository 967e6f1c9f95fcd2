"""What may be asked below `/admin` and of `/metrics`, and what a body there says.

Loads no Ray; `admin` carries it to who decides.
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from deploy.access.keyring import Caller
from deploy.formats.rows import parse_json
from deploy.http.asgi import Answer, Receive, Refusal, Scope

MAX_BODY_BYTES = 64 * 1024
MOST_CHARACTERS = 500  # of a reason; it stands in a table
KEYS = {"promote": {"version", "canary", "why", "endpoint"}, "rollback": {"version", "why", "endpoint"}}
REASON_ONLY = {"why", "endpoint"}


class Desk(Protocol):
    """Takes what is asked below `/admin`."""

    async def metrics(self) -> Answer:
        """Returns the numbers of all replicas."""

    async def answer(self, action: str, caller: Caller, scope: Scope, receive: Receive) -> Answer:
        """Returns the answer to `status`, `history`, `promote`, `rollback`, `freeze` or `unfreeze`.

        Raises:
            Refusal: 4xx where it cannot be done as asked, 503 where nobody is there to decide.
        """


@dataclass(frozen=True, slots=True)
class Wish:
    """What a body asks for."""

    version: int | None = None
    why: str = ""
    canary: float | None = None


def parse_wish(body: bytes, action: str, endpoint: str) -> Wish:
    """Returns what a body asks for; an empty one asks for nothing in particular.

    Raises:
        Refusal: 400 for what is no JSON, 404 for another endpoint, 422 for what is wrong in it.
    """
    given: Any = parse_json(body) if body.strip() else {}
    if not isinstance(given, Mapping):
        raise Refusal(
            422, f'The body has to be an object such as {{"why": "a holiday"}}; it is {type(given).__name__}.'
        )
    allowed = KEYS.get(action, REASON_ONLY)
    for key in given:
        if key not in allowed:
            raise Refusal(422, f"/admin/{action} does not take {key!r}; it takes {', '.join(sorted(allowed))}.")
    named = given.get("endpoint", endpoint)
    if named != endpoint:
        raise Refusal(404, f"This is the endpoint '{endpoint}', not {named!r}.")
    return Wish(_version(given.get("version"), action), _reason(given.get("why", "")), _canary(given.get("canary")))


def _version(given: Any, action: str) -> int | None:
    if given is None and action != "promote":
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise Refusal(422, f"'version' has to be the number of a version, such as 3; it is {given!r}.")
    return given


def _canary(given: Any) -> float | None:
    """Returns a share of the requests, from what is given in percent."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 <= given <= 100:
        raise Refusal(
            422,
            f"'canary' has to be the challenger's share of the requests in percent, from 0 (the shadow) to 100; it is "
            f"{given!r}.",
        )
    return given / 100


def _reason(given: Any) -> str:
    """Returns a reason that may stand in a table on somebody's screen: no escape sequences."""
    if not isinstance(given, str) or len(given) > MOST_CHARACTERS or not given.isprintable():
        raise Refusal(422, f"'why' has to be one line of text with at most {MOST_CHARACTERS} characters.")
    return given


def origin_of(scope: Scope) -> str:
    """Returns the address that a connection comes from, where it is known.

    A proxy on this host says for whom it asks, last in `X-Forwarded-For`; what stands there before that, and what
    others send, anybody can write.
    """
    client = scope.get("client")
    peer = str(client[0]) if client else ""
    said = [value for key, value in scope["headers"] if key.lower() == b"x-forwarded-for"]
    try:
        if not said or not ipaddress.ip_address(peer).is_loopback:
            return peer
        return f"{ipaddress.ip_address(said[-1].rpartition(b',')[2].strip().decode('ascii'))} via {peer}"
    except ValueError:
        return peer

"""Which action a method and a path ask for, and what a token needs for it: a table, and the refusals 404 and 405."""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from deploy.access.named_tokens import TokenScope
from deploy.http.asgi import Refusal

PREDICT = "predict"
INFER = "infer"
ANY_TOKEN: tuple[TokenScope, ...] = ()
ADMIN = "admin"
METRICS = "metrics"
NUMBERS = (TokenScope.METRICS, TokenScope.ADMIN)
DECISIONS = (TokenScope.ADMIN,)
MODEL = (TokenScope.PREDICT,)

_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
# Requests for predictions are first: they are nearly all.
_TABLE = (
    ("POST", PREDICT, MODEL, re.compile(r"/predict")),
    ("POST", INFER, MODEL, re.compile(_MODEL + r"/infer")),
    ("POST", "feedback", MODEL, re.compile(r"/feedback")),
    ("GET", "docs", ANY_TOKEN, re.compile(r"/docs")),
    ("GET", "openapi", MODEL, re.compile(r"/openapi\.json")),
    ("GET", "live", ANY_TOKEN, re.compile(r"/v2/health/live")),
    ("GET", "ready", ANY_TOKEN, re.compile(r"/v2/health/ready")),
    ("GET", "ready", ANY_TOKEN, re.compile(_MODEL + r"/ready")),
    ("GET", "metadata", MODEL, re.compile(_MODEL)),
    ("GET", ADMIN, DECISIONS, re.compile(r"/admin/(?P<decision>status|history)")),
    ("POST", ADMIN, DECISIONS, re.compile(r"/admin/(?P<decision>promote|rollback|freeze|unfreeze)")),
    ("GET", METRICS, NUMBERS, re.compile(r"/metrics")),
    ("GET", "server", ANY_TOKEN, re.compile(r"/v2/?")),
)

TAKEN = frozenset({"predict", "v2", "feedback", "docs", "openapi.json", "admin", "metrics"})
"""What the paths begin with: no endpoint that shares a replica can have such a name, for its paths begin with that."""


@dataclass(frozen=True, slots=True)
class Route:
    """What is asked for, of which model and version; None = whatever answers. `decision` is what is decided by hand.

    A token needs one of `scopes` for it; none: any token will do.
    """

    action: str
    scopes: tuple[TokenScope, ...] = ANY_TOKEN
    model: str | None = None
    version: str | None = None
    decision: str | None = None


@lru_cache(64)  # nearly all requests are for the same two or three; what is refused is not kept
def find_route(method: str, path: str) -> Route:
    """Returns what the request asks for.

    Raises:
        Refusal: 404 for a path that does not exist, 405 for a method that the path does not take.
    """
    for wanted, action, scopes, pattern in _TABLE:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        if method != wanted:
            reason = f"{path} does not take {method}; use {wanted}."
            raise Refusal(405, reason, [(b"allow", wanted.encode())])
        groups = match.groupdict()
        return Route(
            action, scopes, _decoded(groups.get("model")), _decoded(groups.get("version")), groups.get("decision")
        )
    raise Refusal(404, f"There is nothing at {path}. Use POST /predict, or those that GET /docs shows.")


def _decoded(part: str | None) -> str | None:
    return None if part is None else unquote(part)

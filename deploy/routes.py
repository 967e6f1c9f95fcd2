"""Which action a method and a path ask for: a table, and the two refusals 404 and 405."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

from deploy.asgi import Refusal

PREDICT = "predict"

_MODEL = r"/v2/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?"
# Requests for predictions are first: they are nearly all.
_TABLE = (
    ("POST", PREDICT, re.compile(r"/predict")),
    ("POST", "infer", re.compile(_MODEL + r"/infer")),
    ("POST", "feedback", re.compile(r"/feedback")),
    ("GET", "docs", re.compile(r"/docs")),
    ("GET", "openapi", re.compile(r"/openapi\.json")),
    ("GET", "live", re.compile(r"/v2/health/live")),
    ("GET", "ready", re.compile(r"/v2/health/ready")),
    ("GET", "ready", re.compile(_MODEL + r"/ready")),
    ("GET", "metadata", re.compile(_MODEL)),
    ("GET", "server", re.compile(r"/v2/?")),
)


@dataclass(frozen=True, slots=True)
class Route:
    """What is asked for, of which model and version; None = whatever answers."""

    action: str
    model: str | None = None
    version: str | None = None


def find_route(method: str, path: str) -> Route:
    """Returns what the request asks for.

    Raises:
        Refusal: 404 for a path that does not exist, 405 for a method that the path does not take.
    """
    for wanted, action, pattern in _TABLE:
        match = pattern.fullmatch(path)
        if match is None:
            continue
        if method != wanted:
            reason = f"{path} does not take {method}; use {wanted}."
            raise Refusal(405, reason, [(b"allow", wanted.encode())])
        groups = match.groupdict()
        return Route(action, _decoded(groups.get("model")), _decoded(groups.get("version")))
    raise Refusal(404, f"There is nothing at {path}. Use POST /predict, or those that GET /docs shows.")


def _decoded(part: str | None) -> str | None:
    return None if part is None else unquote(part)

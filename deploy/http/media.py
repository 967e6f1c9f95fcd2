"""Which kind of body comes and which one goes: Content-Type and Accept (RFC 9110, 8.3 and 12.5.1)."""

from collections.abc import Iterator
from functools import cache, lru_cache
from importlib.util import find_spec

from deploy.http.asgi import Refusal, Scope, header

JSON = "application/json"
CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"
UNSAID = ("", "application/x-www-form-urlencoded")  # what curl's -d says of any data, unless told otherwise


@cache
def spoken() -> tuple[str, ...]:
    """Returns the kinds that are read and written here; Arrow where there is pyarrow, which a container may lack."""
    return (JSON, CSV, ARROW) if find_spec("pyarrow") else (JSON, CSV)


def body_media(scope: Scope) -> str:
    """Returns the kind of the request's body; JSON where it says nothing.

    Raises:
        Refusal: 415 for one that is not read here.
    """
    media, parameters = _parsed(header(scope, b"content-type") or b"")
    if media in UNSAID:
        return JSON
    charset = parameters.get("charset", "utf-8")
    if media not in spoken():
        raise Refusal(415, f"A body of Content-Type '{media}' is not read here; send {', '.join(spoken())}.")
    if media != ARROW and charset not in ("utf-8", "utf8", "us-ascii"):
        raise Refusal(415, f"A body in the charset '{charset}' is not read here; send UTF-8.")
    return media


def answer_media(scope: Scope) -> str:
    """Returns the kind of answer that the client likes best; JSON where all are equal.

    Raises:
        Refusal: 406 when it takes none of ours.
    """
    if header(scope, b"accept") is None:
        return JSON
    given = [value for key, value in scope["headers"] if key.lower() == b"accept"]
    if given == [b"*/*"]:
        return JSON
    weights = dict.fromkeys(spoken(), (0, 0.0))  # of each kind: how precisely it was meant, and how much it is liked
    for media, weight in _accepted(b",".join(given)):
        for ours in spoken():
            precision = _precision(media, ours)
            if precision and precision > weights[ours][0]:
                weights[ours] = (precision, weight)
    best = max(spoken(), key=lambda media: weights[media][1])  # the first of equals
    if weights[best][1] <= 0:
        raise Refusal(406, f"None of what Accept names is given here; take {', '.join(spoken())}.")
    return best


def _accepted(value: bytes) -> Iterator[tuple[str, float]]:
    for part in value.split(b","):
        media, parameters = _parsed(part)
        try:
            weight = min(1.0, max(0.0, float(parameters.get("q", "1"))))
        except ValueError:
            weight = 0.0
        if media:
            yield media, weight


def _precision(media: str, ours: str) -> int:
    """Returns 3 for the very kind, 2 for its family, 1 for anything, 0 for another."""
    if media == ours:
        return 3
    family, _, _ = ours.partition("/")
    return 2 if media == f"{family}/*" else 1 if media == "*/*" else 0


@lru_cache(64)  # clients say the same each time
def _parsed(value: bytes) -> tuple[str, dict[str, str]]:
    media, *parameters = (part.strip().lower() for part in value.decode("latin-1").split(";"))
    pairs = (parameter.partition("=") for parameter in parameters)
    return media, {name.strip(): word.strip().strip('"') for name, _, word in pairs}

"""The key by which a client stays with one arm of a rollout: a header, or `key` beside the rows of a JSON body."""

import orjson

from deploy.http.asgi import Refusal, Scope, header

KEY_HEADER = b"x-routing-key"
KEY_FIELD = b'"key"'  # as a body has it that has a key; one without these bytes has none
MOST_BYTES = 1024


def header_key(scope: Scope) -> bytes | None:
    """Returns the key in the header, or None."""
    return _checked(header(scope, KEY_HEADER))


def take_key(body: bytes) -> tuple[bytes, bytes | None]:
    """Returns a JSON body without its key, and the key; what is no JSON comes back as it is, for others to refuse.

    Raises:
        Refusal: 422 for a key that is neither text nor a whole number.
    """
    if KEY_FIELD not in body:
        return body, None
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body, None
    if not isinstance(given, dict) or "key" not in given:
        return body, None
    key = given.pop("key")
    if isinstance(key, bool) or not isinstance(key, str | int):
        raise Refusal(
            422, "The 'key' beside the rows has to be a text or a whole number; it keeps a client to a model."
        )
    return orjson.dumps(given), _checked(str(key).encode())


def _checked(key: bytes | None) -> bytes | None:
    if key is not None and len(key) > MOST_BYTES:
        raise Refusal(422, f"The routing key has {len(key)} bytes; {MOST_BYTES} are allowed.")
    return key or None

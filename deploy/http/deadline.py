"""Until when an answer is of use to whoever asked: nothing is computed for a request whose time is over.

Over HTTP the header `x-request-timeout-ms` says how long the client waits, or `grpc-timeout` as gRPC writes it; over
gRPC the metadata `x-request-timeout-ms` does, because Serve keeps a call's own deadline to itself. The time counts from
when the replica got the request.
"""

import re
import time
from collections.abc import Mapping

from deploy.http.asgi import Refusal, Scope, header

TIMEOUT_HEADER = b"x-request-timeout-ms"
GRPC_HEADER = b"grpc-timeout"
_GRPC_TIMEOUT = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS: Mapping[bytes, float] = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_MILLISECONDS = re.compile(rb"\d{1,12}(\.\d{1,6})?")


def deadline_of(scope: Scope) -> float | None:
    """Returns the time (of `time.monotonic`) at which the client stops waiting; None where it does not say.

    Raises:
        Refusal: 400 for a header that says no time.
    """
    given = header(scope, TIMEOUT_HEADER)
    if given is not None:
        if not _MILLISECONDS.fullmatch(given):
            raise Refusal(400, f"X-Request-Timeout-Ms is {_shown(given)}; it takes milliseconds, such as 250.")
        return time.monotonic() + float(given) / 1e3
    given = header(scope, GRPC_HEADER)
    if given is None:
        return None
    match = _GRPC_TIMEOUT.fullmatch(given)
    if match is None:
        raise Refusal(400, f"grpc-timeout is {_shown(given)}; it takes a number and one of H, M, S, m, u, n, as 250m.")
    return time.monotonic() + int(match[1]) * _UNITS[match[2]]


def check_deadline(deadline: float | None) -> None:
    """Refuses (504) a request whose time is over."""
    if deadline is not None and time.monotonic() >= deadline:
        raise Refusal(504, "The time that the request gave was over before its turn came; nothing was computed.")


def _shown(given: bytes) -> str:
    return repr(given[:40].decode("latin-1"))

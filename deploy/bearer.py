"""Whether a request may be answered: its bearer token (RFC 6750), over HTTP and gRPC alike."""

import hmac

from deploy.asgi import Refusal


def check_bearer(given: bytes | None, token: bytes) -> None:
    """Returns when `given`, an Authorization field, holds the token.

    Raises:
        Refusal: 401; it does not say in what a wrong token is wrong.
    """
    scheme, _, said = (given or b"").partition(b" ")
    if scheme.lower() != b"bearer" or not hmac.compare_digest(said.strip(), token):
        what = "a wrong token" if given else "no token"
        raise Refusal(
            401,
            f"The request has {what}. Send 'Authorization: Bearer TOKEN' with the endpoint's token.",
            [(b"www-authenticate", b'Bearer realm="orchestrator"')],
        )

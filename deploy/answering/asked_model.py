"""Which model a request asks for, by name and version, and whether it is the one that answers."""

from deploy.answering.served import Served
from deploy.http.asgi import Refusal

RETRY_AFTER_SECONDS = b"1"


def check_model(asked: str | None, ours: str) -> None:
    """Refuses (404) a model of another name; None is whatever answers."""
    if asked not in (None, ours):
        raise Refusal(404, f"There is no model '{asked}' here; this endpoint serves '{ours}'.")


def loaded(served: Served | None, version: str | None) -> Served:
    """Returns the model that answers, if it is of the version asked for; None is whatever answers.

    Raises:
        Refusal: 503 before the first promotion, 404 for another version.
    """
    if served is None:
        raise Refusal(
            503,
            "No model has been promoted yet. Try again when the first trial has passed its gate.",
            [(b"retry-after", RETRY_AFTER_SECONDS)],
        )
    if version not in (None, str(served.version)):
        raise Refusal(404, f"Version '{version}' does not answer here; version {served.version} does.")
    return served

"""What our actors are called, so that any process of the cluster finds them."""

from hashlib import sha256

from orchestrator.journal import AnyStorage, Storage

NAMESPACE = "orchestrator"


STUDY = "study:"


def study_of(actor: str) -> str | None:
    """Returns the study whose actor has that name; None where it is another actor."""
    name, _, _ = actor.removeprefix(STUDY).rpartition(":")
    return name if actor.startswith(STUDY) else None


def study_actor_name(storage: AnyStorage, study: str) -> str:
    """Returns the name of the one writer of a study on a storage."""
    return f"{STUDY}{study}:{_mark(storage)}"


def runner_name(storage: AnyStorage, study: str) -> str:
    """Returns the name of the actor that holds the study's Tune experiment."""
    return f"runner:{study}:{_mark(storage)}"


def _mark(storage: AnyStorage) -> str:
    return sha256(Storage.of(storage).uri.encode()).hexdigest()[:8]

"""The user's code as it travels: by name with the hash of its source, or by value where it has no name.

An objective that was written in a notebook or in the script at hand has no module that a worker could import; it goes
pickled, and a study with such code can be resumed only by the script itself.
"""

import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import InvalidSpecification, InvalidTrainable
from orchestrator.domain.specification import UNBOUNDED, StudySpecification
from trainables.contract import resource_of
from trainables.resolve import Resolved, resolve, resolve_object


@dataclass(frozen=True, slots=True)
class Code:
    """What a study runs. `paths` are the folders from which modules are imported, as the caller had them.

    `target` is an object without a name, in the process that has it; elsewhere `pickled` stands for it.
    """

    reference: str
    sha256: str
    pickled: bytes | None = None
    paths: tuple[str, ...] = field(default_factory=lambda: tuple(os.path.abspath(entry) for entry in sys.path))
    target: object = None

    @classmethod
    def named(cls, reference: str) -> "Code":
        """Returns the code that a study file names; imports it.

        Raises:
            InvalidTrainable: there is no such thing, or it does not keep the contract.
        """
        reference = absolute(reference)
        return cls(reference, resolve(reference).code_sha256)

    @classmethod
    def of(cls, target: object) -> "Code":
        """Returns the code of an object at hand."""
        resolved = resolve_object(target)
        if _can_be_imported(target):
            return cls(resolved.reference, resolved.code_sha256)
        return cls(resolved.reference, resolved.code_sha256, target=target)

    def __reduce__(self) -> tuple[Any, ...]:
        # by value only where it leaves this process: an inline run calls the very object, and loads no Ray
        pickled = self.pickled
        if self.target is not None:
            from ray import cloudpickle

            pickled = cloudpickle.dumps(self.target)
        return Code, (self.reference, self.sha256, pickled, self.paths)

    def resolve(self) -> Resolved:
        """Returns the code itself, in the process that is to run it.

        Raises:
            InvalidTrainable: it is not there, or not the same as where the study was started.
        """
        sys.path.extend(path for path in self.paths if path not in sys.path)
        if self.target is not None:
            return resolve_object(self.target, self.reference)
        if self.pickled is not None:
            from ray import cloudpickle

            return resolve_object(cloudpickle.loads(self.pickled), self.reference)
        resolved = resolve(self.reference)
        if resolved.code_sha256 != self.sha256:
            raise InvalidTrainable(
                f"the code of '{self.reference}' on this host differs from where the study was started "
                f"({resolved.code_sha256[:12]} against {self.sha256[:12]}); bring the same files to every host"
            )
        return resolved


def _can_be_imported(target: object) -> bool:
    """Whether its module holds the very object under its name; not so for a lambda, or what a decorator hides."""
    module = getattr(target, "__module__", "__main__")
    if module == "__main__" or module not in sys.modules:
        return False
    return getattr(sys.modules[module], getattr(target, "__qualname__", ""), None) is target


def absolute(reference: str) -> str:
    """Returns the reference with the path of a file made absolute: workers have another working directory."""
    place, colon, name = reference.rpartition(":")
    if colon and place.endswith(".py"):
        return f"{Path(place).expanduser().resolve()}:{name}"
    return reference


def trial_defaults(resolved: Resolved) -> dict[str, Any] | None:
    """Returns the configuration of somebody who does not tune; None for a function, which has none."""
    return dict(getattr(resolved.target, "defaults", {})) if resolved.kind == "trainable" else None


def check_end(specification: StudySpecification, resolved: Resolved) -> None:
    """Raises InvalidSpecification where a trial would never end: a class is stepped for as long as it is told to."""
    if resolved.kind == "function" or specification.scheduler.max != UNBOUNDED:
        return
    assert isinstance(resolved.target, type)
    if resource_of(resolved.target) != "fit":
        raise InvalidSpecification(
            f"scheduler: '{resolved.reference}' is trained step by step and has no end of its own; "
            "give its steps an end, such as scheduler: {kind: asha, max: 27} or {kind: none, max: 27}"
        )

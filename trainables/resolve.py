"""From a reference in a study file to what will be trained: a trainable class, or a function objective.

A function objective is any callable that takes one argument, `trial`.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

from orchestrator.domain.errors import InvalidTrainable
from trainables.contract import Trainable
from trainables.references import find, source_sha256

TargetKind = Literal["trainable", "function"]

# How the program calls each method of the contract: the arguments after `self`.
CALLS = {
    "build": ("params", "data", "context"),
    "step": (),
    "save": ("directory",),
    "load": ("directory",),
    "predict": ("rows",),
    "export": ("directory", "lineage"),
}


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a study trains; `code_sha256` names the source that defines it, so that an edit is noticed."""

    kind: TargetKind
    target: type[Trainable] | Callable[[Any], Any]
    code_sha256: str
    reference: str


def resolve(reference: str) -> Resolved:
    """Returns what `reference` names; imports the user's code.

    Args:
        reference: `package.module.Class`, `module:name`, `path/to/file.py:name`, or a module that holds exactly one
            trainable class.

    Raises:
        InvalidTrainable: there is no such thing, its module fails, or it does not keep the contract.
    """
    found = find(reference, InvalidTrainable)
    value = _only_trainable(found.value, reference) if isinstance(found.value, ModuleType) else found.value
    return resolve_object(value, reference)


def resolve_object(target: object, reference: str = "") -> Resolved:
    """Returns the same as `resolve` for an object at hand.

    Raises:
        InvalidTrainable: it is neither a class that keeps the contract nor a callable that takes one argument.
    """
    name = reference or f"{getattr(target, '__module__', '?')}:{getattr(target, '__qualname__', target)}"
    if isinstance(target, type):
        _check_class(target, name)
        return Resolved("trainable", target, source_sha256(target), name)
    if not callable(target):
        raise InvalidTrainable(
            f"'{name}' is {type(target).__name__}; give a trainable class or a function that takes `trial`"
        )
    if not _accepts(target, ("trial",)):
        raise InvalidTrainable(
            f"'{name}' takes {inspect.signature(target)}; an objective is called with one argument, `trial`"
        )
    return Resolved("function", target, source_sha256(target), name)


def _only_trainable(module: ModuleType, reference: str) -> type:
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    own = [value for value in classes if value.__module__ == module.__name__ and not _missing(value)]
    if len(own) == 1:
        return own[0]
    if own:
        names = ", ".join(value.__qualname__ for value in own)
        raise InvalidTrainable(f"module '{reference}' holds several trainables; name one of {names}")
    known = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    raise InvalidTrainable(
        f"module '{reference}' holds no trainable class; name one of {', '.join(known) or 'its functions'} "
        f"as '{reference}:name'"
    )


def _missing(candidate: type) -> list[str]:
    return [name for name in ("defaults", *CALLS) if not hasattr(candidate, name)]


def _check_class(candidate: type, name: str) -> None:
    missing = _missing(candidate)
    if missing:
        raise InvalidTrainable(
            f"class '{name}' lacks {', '.join(missing)}; a trainable has {', '.join(('defaults', *CALLS))} "
            "(see trainables.contract.Trainable)"
        )
    for method, arguments in CALLS.items():
        function = getattr(candidate, method)
        if not _accepts(function, ("self", *arguments)):
            raise InvalidTrainable(
                f"'{name}.{method}' takes {inspect.signature(function)}; it is called as "
                f"{method}({', '.join(arguments)})"
            )


def _accepts(function: Callable[..., Any], arguments: tuple[str, ...]) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # built in C, without a signature to look at
        return True
    return True

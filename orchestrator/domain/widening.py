"""A wider space: one that holds every configuration of another.

Ranges and lists of values only grow, no parameter goes, and none gets or loses a condition. A parameter that is new
says with its `default` what the older configurations had; only one whose condition none of them meets needs none.
"""

import json
from collections.abc import Iterable

from orchestrator.domain.errors import InvalidSpace, did_you_mean
from orchestrator.domain.parameters import STEP_TOLERANCE, UNSET, Choice, Float, Int, Parameter, Value, same_value
from orchestrator.domain.space import Space

Range = Float | Int


def check_wider(old: Space, new: Space) -> None:
    """Raises InvalidSpace where a configuration of `old`, completed by the defaults, is none of `new`."""
    for name, parameter in old.parameters.items():
        if name not in new.parameters:
            raise _narrower(f"'{name}' is missing.{did_you_mean(name, new.parameters)}")
        _check_values(name, parameter, new.parameters[name])
        _check_condition(name, old, new)
    for name in new.parameters:
        if name not in old.parameters and _may_be_needed(name, old, new):
            _check_default(name, new.parameters[name])


def _narrower(what: str) -> InvalidSpace:
    return InvalidSpace(f"a wider space holds all of the one before: {what}")


def _check_values(name: str, old: Parameter, new: Parameter) -> None:
    if isinstance(old, Choice):
        gone = [value for value in old.values if not new.contains(value)]
        if gone:
            raise _narrower(f"'{name}' no longer takes {', '.join(map(repr, gone))}")
        return
    if type(new) is not type(old):
        kinds = type(old).__name__, type(new).__name__
        raise _narrower(f"'{name}' was {_article(kinds[0])} and is now {_article(kinds[1])}")
    if new.low > old.low or new.high < old.high:
        raise _narrower(f"'{name}' went from {old.low} to {old.high} and now goes from {new.low} to {new.high}")
    if not _holds_steps(old, new):
        steps = "every value" if old.step is None else f"steps of {old.step} from {old.low}"
        raise _narrower(f"'{name}' took {steps}, and not all of them lie on steps of {new.step} from {new.low}")


def _article(kind: str) -> str:
    return f"{'an' if kind[0] in 'AEIOU' else 'a'} {kind}"


def _holds_steps(old: Range, new: Range) -> bool:
    """Returns whether every value of `old` is on the steps of `new`, which reaches as far."""
    if new.step is None:
        return True
    if not new.contains(old.low):
        return False
    if old.low == old.high:
        return True
    each = old.step if old.step is not None else (1 if isinstance(old, Int) else None)
    if each is None:
        return False
    ratio = each / new.step
    return round(ratio) >= 1 and abs(ratio - round(ratio)) <= STEP_TOLERANCE * max(1.0, ratio)


def _check_condition(name: str, old: Space, new: Space) -> None:
    """Raises where the parameter would get a place in an older configuration, or lose it."""
    before, after = old.parameters[name].when or {}, new.parameters[name].when or {}
    if set(before) != set(after):
        said = [f"on {', '.join(when)}" if when else "on nothing" for when in (before, after)]
        raise _narrower(f"'{name}' depended {said[0]} and now depends {said[1]}")
    for parent, allowed in before.items():
        now = after[parent]
        lost = [value for value in allowed if not _is_among(now, value)]
        if lost:
            raise _narrower(f"'{name}' no longer exists where {parent} is {lost[0]!r}")
        added = [value for value in now if not _is_among(allowed, value) and old.parameters[parent].contains(value)]
        if added:
            raise _narrower(
                f"'{name}' now exists where {parent} is {added[0]!r}, and older trials with that value have none"
            )


def _is_among(values: Iterable[Value], value: Value) -> bool:
    return any(same_value(value, other) for other in values)


def _may_be_needed(name: str, old: Space, new: Space) -> bool:
    """Returns whether the new parameter may have a place in an older configuration."""
    for parent, allowed in (new.parameters[name].when or {}).items():
        if parent in old.parameters:
            if not any(old.parameters[parent].contains(value) for value in allowed):
                return False
        elif not (_is_among(allowed, new.parameters[parent].middle()) and _may_be_needed(parent, old, new)):
            return False
    return True


def _check_default(name: str, parameter: Parameter) -> None:
    is_constant = len(parameter.values) == 1 if isinstance(parameter, Choice) else parameter.low == parameter.high
    if parameter.default is UNSET and not is_constant:
        example = json.dumps({**parameter.to_dict(), "default": parameter.middle()}, ensure_ascii=False)
        raise InvalidSpace(
            f"the parameter '{name}' is new: say with `default` which value the trials before it had, "
            f"such as {name}: {example}"
        )

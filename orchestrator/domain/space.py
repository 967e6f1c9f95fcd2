"""The space: named parameters, each a range or a choice, each perhaps only under a condition.

A parameter with `when` exists in a configuration only if every parent that it names is there and has one of the
values listed. A configuration therefore holds the *active* parameters and no others. The order of `Space.parameters`
is one in which parents come before their children; it does not depend on how the space was written down.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from orchestrator.domain.errors import InvalidSpace, did_you_mean
from orchestrator.domain.parameters import (
    KEYS,
    UNSET,
    Choice,
    Configuration,
    Float,
    Int,
    Parameter,
    Unset,
    Value,
    parameter_from_dict,
    same_value,
)

__all__ = [
    "KEYS",
    "UNSET",
    "Choice",
    "Configuration",
    "Float",
    "Int",
    "Parameter",
    "Space",
    "Unset",
    "Value",
    "parameter_from_dict",
]


@dataclass(frozen=True, slots=True)
class Space:
    """The parameters by name, parents before children.

    Raises:
        InvalidSpace: an unknown parent, a condition that can never hold, or a cycle of conditions.
    """

    parameters: Mapping[str, Parameter] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, parameter in self.parameters.items():
            if not isinstance(name, str) or not name:
                raise InvalidSpace(f"a parameter's name is text; given {name!r}")
            if not isinstance(parameter, Float | Int | Choice):
                raise InvalidSpace(f"parameter '{name}' is a Float, an Int or a Choice; given {parameter!r}")
            self._check_conditions(name, parameter)
        object.__setattr__(self, "parameters", MappingProxyType(_parents_first(self.parameters)))

    def __reduce__(self) -> tuple[Any, ...]:
        # a mapping proxy cannot be pickled
        return Space.from_dict, (self.to_dict(),)

    def _check_conditions(self, name: str, parameter: Parameter) -> None:
        for parent, allowed in (parameter.when or {}).items():
            if parent not in self.parameters:
                raise InvalidSpace(
                    f"parameter '{name}' depends on '{parent}', which is not in the space "
                    f"({', '.join(self.parameters)}).{did_you_mean(parent, self.parameters)}"
                )
            for value in allowed:
                if not self.parameters[parent].contains(value):
                    raise InvalidSpace(f"parameter '{name}' waits for {parent} = {value!r}, which it can never be")

    def is_active(self, name: str, configuration: Configuration) -> bool:
        """Returns whether the parameter exists beside the (parents') values in `configuration`."""
        return all(
            parent in configuration and any(same_value(configuration[parent], value) for value in allowed)
            for parent, allowed in (self.parameters[name].when or {}).items()
        )

    def sample(self, rng: random.Random) -> dict[str, Value]:
        """Returns a random configuration: each active parameter uniform on its own scale."""
        drawn: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            if self.is_active(name, drawn):
                drawn[name] = parameter.sample(rng)
        return drawn

    def complete(self, partial: Configuration) -> dict[str, Value]:
        """Returns `partial` with the default, else the middle, of each active parameter it lacks; no inactive ones.

        Raises:
            InvalidSpace: a name that is not in the space, or a value outside its parameter.
        """
        for name in partial:
            if name not in self.parameters:
                raise InvalidSpace(f"'{name}' is not in the space.{did_you_mean(name, self.parameters)}")
        whole: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            if self.is_active(name, whole):
                whole[name] = partial.get(name, parameter.middle()) if name in partial else parameter.middle()
        self.validate(whole)
        return whole

    def nearest(self, wanted: Mapping[str, Any]) -> dict[str, Value]:
        """Returns the configuration nearest to `wanted`, whose names and values may lie outside the space.

        Numbers are brought to the nearest bound; where that is not a value of the parameter, and for choices that are
        not listed, the middle stands.
        """
        near: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            if self.is_active(name, near):
                value = wanted.get(name)
                if isinstance(value, int | float) and not isinstance(value, bool):
                    value = value if isinstance(parameter, Choice) else min(parameter.high, max(parameter.low, value))
                near[name] = value if parameter.contains(value) else parameter.middle()
        return near

    def validate(self, configuration: Configuration) -> None:
        """Raises InvalidSpace unless `configuration` holds exactly the active parameters, each within its range."""
        for name in configuration:
            if name not in self.parameters:
                raise InvalidSpace(f"'{name}' is not in the space.{did_you_mean(name, self.parameters)}")
        for name, parameter in self.parameters.items():
            active = self.is_active(name, configuration)
            if active and name not in configuration:
                raise InvalidSpace(f"the configuration lacks '{name}'")
            if not active and name in configuration:
                raise InvalidSpace(f"'{name}' has no place in this configuration: its condition does not hold")
            if active and not parameter.contains(configuration[name]):
                raise InvalidSpace(f"{name} = {configuration[name]!r} is outside {parameter.to_dict()}")

    def to_dict(self) -> dict[str, Any]:
        """Returns the space as a study file writes it; `from_dict` gives the same space back."""
        return {name: parameter.to_dict() for name, parameter in self.parameters.items()}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Space":
        """Returns the space that a study file describes.

        Raises:
            InvalidSpace: naming the parameter, what was given, and what is allowed.
        """
        if not isinstance(given, Mapping):
            raise InvalidSpace(f"a space maps names to parameters; given {given!r}")
        return cls({name: parameter_from_dict(name, entry) for name, entry in given.items()})


def _parents_first(parameters: Mapping[str, Parameter]) -> dict[str, Parameter]:
    ordered: dict[str, Parameter] = {}
    open_names = sorted(parameters)
    while open_names:
        ready = [name for name in open_names if all(parent in ordered for parent in parameters[name].when or {})]
        if not ready:
            raise InvalidSpace(f"the conditions of {', '.join(open_names)} go round in a circle")
        for name in ready:
            ordered[name] = parameters[name]
        open_names = [name for name in open_names if name not in ordered]
    return ordered

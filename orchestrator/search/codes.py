"""How a parameter's values look to an engine that knows only ranges of numbers and numbered choices.

A grid (a parameter with `step`) becomes the numbers of its points and a choice the numbers of its values: an engine can
then neither miss a grid point by rounding nor take True for 1.
"""

import math
from dataclasses import dataclass
from typing import Literal

from orchestrator.domain.space import Choice, Float, Int, Parameter, Space, Value

Number = float | int


@dataclass(frozen=True, slots=True)
class Code:
    """One parameter as numbers in [low, high]; `kind` says which numbers, `log` on which scale."""

    parameter: Parameter
    kind: Literal["float", "int", "choice"]
    low: Number
    high: Number
    log: bool = False

    @property
    def is_constant(self) -> bool:
        """Whether there is nothing to choose."""
        return self.low == self.high

    def encode(self, value: Value) -> Number:
        """Returns the number that stands for a value of the parameter."""
        if isinstance(self.parameter, Choice):
            position = self.parameter.position(value)
            assert position is not None
            return position
        assert isinstance(value, float | int)
        if self.parameter.step is not None:
            return round((value - self.parameter.low) / self.parameter.step)
        return value

    def decode(self, number: Number) -> Value:
        """Returns the value that `number` stands for; rounding never leads out of the parameter's range."""
        number = min(self.high, max(self.low, number if self.kind == "float" else round(number)))
        parameter = self.parameter
        if isinstance(parameter, Choice):
            return parameter.values[int(number)]
        if parameter.step is not None:
            return parameter.point(int(number))
        return float(number) if isinstance(parameter, Float) else int(number)

    def decode_share(self, share: float) -> Value:
        """Returns the value at a share in [0, 1) of the parameter's own scale.

        Whole numbers and choices get equal parts: half a unit of margin on both sides gives the ends their own.
        """
        margin = 0.5 if self.kind != "float" else 0.0
        low, high = self.low - margin, self.high + margin
        if self.log:
            return self.decode(math.exp(math.log(low) + share * (math.log(high) - math.log(low))))
        return self.decode(low + share * (high - low))


def code_of(parameter: Parameter) -> Code:
    """Returns the code of one parameter."""
    if isinstance(parameter, Choice):
        return Code(parameter, "choice", 0, len(parameter.values) - 1)
    if parameter.step is not None:
        return Code(parameter, "int", 0, parameter.last_point)
    kind: Literal["float", "int"] = "int" if isinstance(parameter, Int) else "float"
    return Code(parameter, kind, parameter.low, parameter.high, parameter.log)


def parameters_by_condition(space: Space) -> list[tuple[str, ...]]:
    """Returns the names of the parameters that share a condition, parents' groups before their children's.

    The members of a group are active together or not at all.
    """
    groups: dict[str, list[str]] = {}
    for name, parameter in space.parameters.items():
        condition = repr(sorted((parameter.when or {}).items()))  # text keeps True apart from 1
        groups.setdefault(condition, []).append(name)
    return [tuple(names) for names in groups.values()]

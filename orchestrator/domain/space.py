"""The space: named parameters, each a range or a choice, each perhaps only under a condition.

A parameter with `when` exists in a configuration only if every parent that it names is there and has one of the
values listed. A configuration therefore holds the *active* parameters and no others. The order of `Space.parameters`
is one in which parents come before their children; it does not depend on how the space was written down.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from orchestrator.domain.errors import InvalidSpace, did_you_mean

Value = float | int | str | bool | None
Configuration = Mapping[str, Value]
When = Mapping[str, tuple[Value, ...]]

STEP_TOLERANCE = 1e-9  # of a step: how far from a grid point a value still counts as being on it


def _when(given: Mapping[str, Any] | None) -> When:
    if not isinstance(given, Mapping | None):
        raise InvalidSpace(
            f"when maps parents to the values they must have, such as {{optimizer: sgd}}; given {given!r}"
        )
    conditions = {}
    for parent, allowed in (given or {}).items():
        if isinstance(allowed, set | frozenset):
            allowed = sorted(allowed, key=repr)  # a set's own order differs from process to process
        values = tuple(allowed) if isinstance(allowed, list | tuple) else (allowed,)
        if not values:
            raise InvalidSpace(f"the condition on '{parent}' allows no value; give at least one")
        conditions[parent] = values
    return MappingProxyType(conditions)


def _same(left: Value, right: Value) -> bool:
    """Equality that keeps True apart from 1."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


def _check_range(kind: str, low: float, high: float, log: bool, step: float | None) -> None:
    if not isinstance(log, bool):
        raise InvalidSpace(f"{kind} takes log: true or false; given {log!r}")
    if isinstance(step, bool) or not isinstance(step, int | float | None):
        raise InvalidSpace(f"{kind} needs a number as step; given {step!r}")
    if not (math.isfinite(low) and math.isfinite(high)):
        raise InvalidSpace(f"{kind} needs finite bounds; given {low} to {high}")
    if low > high:
        raise InvalidSpace(f"{kind} from {low} to {high} is inverted: min must not be above max")
    if log and low <= 0:
        raise InvalidSpace(f"{kind} with log: true needs bounds above 0; given min {low}")
    if step is not None and (not math.isfinite(step) or step <= 0):
        raise InvalidSpace(f"{kind} needs a step above 0; given {step}")
    if step is not None and log:
        raise InvalidSpace(f"{kind} takes either log or step, not both")


@dataclass(frozen=True, slots=True)
class Float:
    """A real number in [low, high]; on a logarithmic scale with `log`, on a grid from `low` with `step`."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), int | float):
                raise InvalidSpace(f"Float needs numbers as bounds; given {getattr(self, name)!r}")
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        object.__setattr__(self, "when", _when(self.when))
        _check_range("Float", self.low, self.high, self.log, self.step)

    def contains(self, value: Any) -> bool:
        """Returns whether `value` is one that this parameter can take."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        # a grid far from zero is as coarse as floating point is there: 32768.001 lies 3.6e-12 beside its point
        rounding = 2 * math.ulp(max(abs(self.low), abs(self.high))) / self.step
        return abs(steps - round(steps)) <= STEP_TOLERANCE * max(1.0, steps) + rounding

    def sample(self, rng: random.Random) -> float:
        """Returns a value, uniform on the parameter's own scale."""
        if self.step is not None:
            count = math.floor((self.high - self.low) / self.step + STEP_TOLERANCE) + 1
            return min(self.high, self.low + rng.randrange(count) * self.step)
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        return min(self.high, max(self.low, value))

    def middle(self) -> float:
        """Returns the middle of the range on its own scale: the guess of somebody who knows nothing."""
        if self.log:
            return min(self.high, max(self.low, math.sqrt(self.low) * math.sqrt(self.high)))
        if self.step is None:
            return self.low + (self.high - self.low) / 2
        return self.low + round((self.high - self.low) / 2 / self.step) * self.step

    def to_dict(self) -> dict[str, Any]:
        """Returns the parameter as a study file writes it."""
        return {"type": "float", "min": self.low, "max": self.high} | _options(self.log, self.step, self.when)


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number in [low, high], both ends included."""

    low: int
    high: int
    log: bool = False
    step: int | None = None
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | None) or (value is None and name != "step"):
                raise InvalidSpace(f"Int needs whole numbers; given {name} {value!r}")
        object.__setattr__(self, "when", _when(self.when))
        _check_range("Int", self.low, self.high, self.log, self.step)

    def contains(self, value: Any) -> bool:
        """Returns whether `value` is one that this parameter can take."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            return False
        return (value - self.low) % (self.step or 1) == 0

    def sample(self, rng: random.Random) -> int:
        """Returns a value, uniform on the parameter's own scale."""
        if not self.log:
            return rng.randrange(self.low, self.high + 1, self.step or 1)
        # half a unit of margin on both sides gives both ends the share of a whole number
        value = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
        return min(self.high, max(self.low, round(value)))

    def middle(self) -> int:
        """Returns the middle of the range on its own scale."""
        if self.log:
            return min(self.high, max(self.low, round(math.sqrt(self.low) * math.sqrt(self.high))))
        step = self.step or 1
        return self.low + (self.high - self.low) // step // 2 * step

    def to_dict(self) -> dict[str, Any]:
        """Returns the parameter as a study file writes it."""
        return {"type": "int", "min": self.low, "max": self.high} | _options(self.log, self.step, self.when)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the listed values, which have no order."""

    values: Sequence[Value]
    when: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.values, str) or not isinstance(self.values, Sequence) or not self.values:
            raise InvalidSpace(f"Choice needs a list of at least one value; given {self.values!r}")
        values: list[Value] = []
        for value in self.values:
            if not isinstance(value, str | int | float | bool | None):
                raise InvalidSpace(f"Choice takes text, numbers, true, false and null; given {value!r}")
            if isinstance(value, float) and not math.isfinite(value):
                raise InvalidSpace(f"Choice takes finite numbers; given {value!r}")
            if any(_same(value, other) for other in values):
                raise InvalidSpace(f"Choice lists {value!r} twice")
            values.append(value)
        object.__setattr__(self, "values", tuple(values))
        object.__setattr__(self, "when", _when(self.when))

    def contains(self, value: Any) -> bool:
        """Returns whether `value` is one of the choices."""
        return self.position(value) is not None

    def position(self, value: Any) -> int | None:
        """Returns where `value` stands among the choices, None where it does not; True is not 1."""
        return next((place for place, choice in enumerate(self.values) if _same(value, choice)), None)

    def sample(self, rng: random.Random) -> Value:
        """Returns one of the choices, each as likely as another."""
        return self.values[rng.randrange(len(self.values))]

    def middle(self) -> Value:
        """Returns the first choice: people list the usual one first."""
        return self.values[0]

    def to_dict(self) -> dict[str, Any]:
        """Returns the parameter as a study file writes it."""
        return {"values": list(self.values)} | _options(False, None, self.when)


Parameter = Float | Int | Choice


def _options(log: bool, step: float | None, when: Mapping[str, Any] | None) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if log:
        options["log"] = True
    if step is not None:
        options["step"] = step
    if when:
        options["when"] = {parent: list(allowed) for parent, allowed in when.items()}
    return options


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
            parent in configuration and any(_same(configuration[parent], value) for value in allowed)
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
        """Returns `partial` with the middle of each active parameter it lacks, and without inactive ones.

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


RANGE_KEYS = {"type", "min", "max", "log", "step", "when"}
KEYS = RANGE_KEYS | {"values", "value"}


def parameter_from_dict(name: str, entry: Any) -> Parameter:
    """Returns one parameter of a study file: `{min, max, …}`, `{values: […]}` or `{value: x}`."""
    if not isinstance(entry, Mapping):
        raise InvalidSpace(f"parameter '{name}' is {{min:, max:}} or {{values: […]}}; given {entry!r}")
    for key in entry:
        if key not in KEYS:
            raise InvalidSpace(f"parameter '{name}' has an unknown key '{key}'.{did_you_mean(str(key), KEYS)}")
    if not (entry.keys() <= {"values", "when"} or entry.keys() <= {"value", "when"} or entry.keys() <= RANGE_KEYS):
        raise InvalidSpace(f"parameter '{name}' takes either values, or one value, or min and max; given {dict(entry)}")
    try:
        if "values" in entry:
            return Choice(entry["values"], when=entry.get("when"))
        if "value" in entry:
            return Choice([entry["value"]], when=entry.get("when"))
        return _range_from_dict(entry)
    except InvalidSpace as error:
        raise InvalidSpace(f"parameter '{name}': {error}") from None


def _range_from_dict(entry: Mapping[str, Any]) -> Parameter:
    missing = [key for key in ("min", "max") if key not in entry]
    if missing:
        raise InvalidSpace(f"{' and '.join(missing)} missing; give min and max, or values")
    low, high = _number(entry["min"]), _number(entry["max"])
    step = None if entry.get("step") is None else _number(entry["step"])
    log = entry.get("log", False)
    whole = isinstance(low, int) and isinstance(high, int) and isinstance(step, int | None)
    kind = entry.get("type", "int" if whole else "float")
    if kind == "int":
        if not whole:
            raise InvalidSpace(f"type int needs whole numbers; given min {low}, max {high}, step {step}")
        assert isinstance(low, int)
        assert isinstance(high, int)
        assert isinstance(step, int | None)
        return Int(low, high, log=log, step=step, when=entry.get("when"))
    if kind == "float":
        return Float(low, high, log=log, step=step, when=entry.get("when"))
    raise InvalidSpace(f"type is int or float; given {kind!r}")


def _number(given: Any) -> float | int:
    """Returns a number; text such as "1e-4" too, because YAML 1.1 reads that as text."""
    if isinstance(given, str):
        try:
            return float(given)
        except ValueError:
            pass
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise InvalidSpace(f"min, max and step are numbers; given {given!r}")
    return given


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

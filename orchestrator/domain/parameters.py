"""A parameter: a range of real or whole numbers, or a choice; perhaps only under a condition.

A parameter's `default` is the value of whoever does not choose: of a configuration that leaves it open, and of the
trials that were begun before a wider space brought the parameter.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Any

from orchestrator.domain.errors import InvalidSpace, did_you_mean

Value = float | int | str | bool | None
Configuration = Mapping[str, Value]
When = Mapping[str, tuple[Value, ...]]


class Unset(Enum):
    """Stands where no value was given; None is one."""

    UNSET = "unset"


UNSET = Unset.UNSET
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


def same_value(left: Value, right: Value) -> bool:
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


def _check_default(parameter: "Parameter") -> None:
    if parameter.default is not UNSET and not parameter.contains(parameter.default):
        raise InvalidSpace(f"the default {parameter.default!r} is outside {parameter.to_dict()}")


@dataclass(frozen=True, slots=True)
class Float:
    """A real number in [low, high]; on a logarithmic scale with `log`, on a grid from `low` with `step`."""

    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: Mapping[str, Any] | None = None
    default: float | Unset = UNSET

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), int | float):
                raise InvalidSpace(f"Float needs numbers as bounds; given {getattr(self, name)!r}")
        object.__setattr__(self, "low", float(self.low))
        object.__setattr__(self, "high", float(self.high))
        object.__setattr__(self, "when", _when(self.when))
        _check_range("Float", self.low, self.high, self.log, self.step)
        _check_default(self)

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

    def point(self, number: int) -> float:
        """Returns the grid's point of this number, counted from 0 at `low`; only with `step`."""
        assert self.step is not None
        return min(self.high, self.low + number * self.step)

    @property
    def last_point(self) -> int:
        """The number of the grid's last point, which is `high` where `high` counts as on the grid; only with `step`."""
        assert self.step is not None
        steps = (self.high - self.low) / self.step
        return round(steps) if self.contains(self.high) else math.floor(steps)

    def sample(self, rng: random.Random) -> float:
        """Returns a value, uniform on the parameter's own scale."""
        if self.step is not None:
            return self.point(rng.randrange(self.last_point + 1))
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = rng.uniform(self.low, self.high)
        return min(self.high, max(self.low, value))

    def middle(self) -> float:
        """Returns the default; else the middle of the range on its own scale, the guess of who knows nothing."""
        if not isinstance(self.default, Unset):
            return float(self.default)
        if self.log:
            return min(self.high, max(self.low, math.sqrt(self.low) * math.sqrt(self.high)))
        if self.step is None:
            return self.low + (self.high - self.low) / 2
        return self.point(round((self.high - self.low) / 2 / self.step))

    def to_dict(self) -> dict[str, Any]:
        """Returns the parameter as a study file writes it."""
        return {"type": "float", "min": self.low, "max": self.high} | _options(
            self.log, self.step, self.when, self.default
        )


@dataclass(frozen=True, slots=True)
class Int:
    """A whole number in [low, high], both ends included."""

    low: int
    high: int
    log: bool = False
    step: int | None = None
    when: Mapping[str, Any] | None = None
    default: int | Unset = UNSET

    def __post_init__(self) -> None:
        for name in ("low", "high", "step"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | None) or (value is None and name != "step"):
                raise InvalidSpace(f"Int needs whole numbers; given {name} {value!r}")
        object.__setattr__(self, "when", _when(self.when))
        _check_range("Int", self.low, self.high, self.log, self.step)
        _check_default(self)

    def contains(self, value: Any) -> bool:
        """Returns whether `value` is one that this parameter can take."""
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            return False
        return (value - self.low) % (self.step or 1) == 0

    def point(self, number: int) -> int:
        """Returns the value of this number, counted from 0 at `low` in steps."""
        return self.low + number * (self.step or 1)

    @property
    def last_point(self) -> int:
        """The number of the last value."""
        return (self.high - self.low) // (self.step or 1)

    def sample(self, rng: random.Random) -> int:
        """Returns a value, uniform on the parameter's own scale."""
        if not self.log:
            return rng.randrange(self.low, self.high + 1, self.step or 1)
        # half a unit of margin on both sides gives both ends the share of a whole number
        value = math.exp(rng.uniform(math.log(self.low - 0.5), math.log(self.high + 0.5)))
        return min(self.high, max(self.low, round(value)))

    def middle(self) -> int:
        """Returns the default, else the middle of the range on its own scale."""
        if not isinstance(self.default, Unset):
            return self.default
        if self.log:
            return min(self.high, max(self.low, round(math.sqrt(self.low) * math.sqrt(self.high))))
        return self.point(self.last_point // 2)

    def to_dict(self) -> dict[str, Any]:
        """Returns the parameter as a study file writes it."""
        return {"type": "int", "min": self.low, "max": self.high} | _options(
            self.log, self.step, self.when, self.default
        )


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the listed values, which have no order."""

    values: Sequence[Value]
    when: Mapping[str, Any] | None = None
    default: Value | Unset = UNSET

    def __post_init__(self) -> None:
        if isinstance(self.values, str) or not isinstance(self.values, Sequence) or not self.values:
            raise InvalidSpace(f"Choice needs a list of at least one value; given {self.values!r}")
        values: list[Value] = []
        for value in self.values:
            if not isinstance(value, str | int | float | bool | None):
                raise InvalidSpace(f"Choice takes text, numbers, true, false and null; given {value!r}")
            if isinstance(value, float) and not math.isfinite(value):
                raise InvalidSpace(f"Choice takes finite numbers; given {value!r}")
            if any(same_value(value, other) for other in values):
                raise InvalidSpace(f"Choice lists {value!r} twice")
            values.append(value)
        object.__setattr__(self, "values", tuple(values))
        object.__setattr__(self, "when", _when(self.when))
        _check_default(self)

    def contains(self, value: Any) -> bool:
        """Returns whether `value` is one of the choices."""
        return self.position(value) is not None

    def position(self, value: Any) -> int | None:
        """Returns where `value` stands among the choices, None where it does not; True is not 1."""
        return next((place for place, choice in enumerate(self.values) if same_value(value, choice)), None)

    def sample(self, rng: random.Random) -> Value:
        """Returns one of the choices, each as likely as another."""
        return self.values[rng.randrange(len(self.values))]

    def middle(self) -> Value:
        """Returns the default, else the first choice: people list the usual one first."""
        return self.values[0] if isinstance(self.default, Unset) else self.default

    def to_dict(self) -> dict[str, Any]:
        """Returns the parameter as a study file writes it."""
        return {"values": list(self.values)} | _options(False, None, self.when, self.default)


Parameter = Float | Int | Choice


def _options(log: bool, step: float | None, when: Mapping[str, Any] | None, default: Value | Unset) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if log:
        options["log"] = True
    if step is not None:
        options["step"] = step
    if when:
        options["when"] = {parent: list(allowed) for parent, allowed in when.items()}
    if default is not UNSET:
        options["default"] = default
    return options


RANGE_KEYS = {"type", "min", "max", "log", "step", "when", "default"}
CHOICE_KEYS = {"values", "when", "default"}
KEYS = RANGE_KEYS | {"values", "value"}


def parameter_from_dict(name: str, entry: Any) -> Parameter:
    """Returns one parameter of a study file: `{min, max, …}`, `{values: […]}` or `{value: x}`."""
    if not isinstance(entry, Mapping):
        raise InvalidSpace(f"parameter '{name}' is {{min:, max:}} or {{values: […]}}; given {entry!r}")
    for key in entry:
        if key not in KEYS:
            raise InvalidSpace(f"parameter '{name}' has an unknown key '{key}'.{did_you_mean(str(key), KEYS)}")
    if not (entry.keys() <= CHOICE_KEYS or entry.keys() <= {"value", "when"} or entry.keys() <= RANGE_KEYS):
        raise InvalidSpace(f"parameter '{name}' takes either values, or one value, or min and max; given {dict(entry)}")
    try:
        if "values" in entry:
            return Choice(entry["values"], when=entry.get("when"), default=entry.get("default", UNSET))
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
        return Int(low, high, log=log, step=step, when=entry.get("when"), default=entry.get("default", UNSET))
    if kind == "float":
        default = _number(entry["default"]) if "default" in entry else UNSET
        return Float(low, high, log=log, step=step, when=entry.get("when"), default=default)
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

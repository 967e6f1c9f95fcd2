"""A grid over a space: the finite list of configurations that `search: grid` goes through.

Choices give their values, whole numbers their range, parameters with `step` their steps. A continuous range, and a
logarithmic one of whole numbers, gives as many values as `points` says, evenly spread on its own scale, both ends
among them. A conditional parameter multiplies only the configurations in which it exists.
"""

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from orchestrator.domain.errors import InvalidSpecification
from orchestrator.domain.space import Choice, Configuration, Float, Int, Parameter, Space, Value

LARGEST = 1_000_000  # configurations; whoever asks for more has made a mistake
BESIDE = 1e-6  # of the way to the next value: so far a number may be off, reached by another sum

Axis = Sequence[Value]
Point = tuple[int | None, ...]
"""One configuration: for each parameter the position of its value on the axis; None where it has no place."""


class Grid:
    """The configurations of one space. Immutable.

    Raises:
        InvalidSpecification: a continuous parameter without `points`, or more than a million configurations.
    """

    def __init__(self, space: Space, points: int | None) -> None:
        self._space = space
        counts = {name: _count(parameter, points) for name, parameter in space.parameters.items()}
        for name, count in counts.items():
            if count == 0:
                raise InvalidSpecification(
                    f"search.engine: grid cannot go through the continuous parameter '{name}'; give it a step or "
                    "values, or say how many values such a parameter takes: search: {engine: grid, points: 5}"
                )
        if max(counts.values(), default=0) > LARGEST:
            raise _too_large()
        self._axes = {name: _axis(parameter, points) for name, parameter in space.parameters.items()}
        if self._is_too_large():
            raise _too_large()

    def first(self) -> Point:
        """Returns the point at which to begin."""
        return self._filled(())

    def after(self, point: Point) -> Point | None:
        """Returns the next point, the last parameter changing fastest; None after the last one."""
        for index, (axis, position) in reversed([*enumerate(zip(self._axes.values(), point, strict=True))]):
            if position is not None and position + 1 < len(axis):
                return self._filled((*point[:index], position + 1))
        return None

    def points(self) -> Iterator[Point]:
        """Yields every point once."""
        point: Point | None = self.first()
        while point is not None:
            yield point
            point = self.after(point)

    def configuration(self, point: Point) -> dict[str, Value]:
        """Returns the configuration at a point, or at the beginning of one."""
        positions = zip(self._axes.items(), point, strict=False)
        return {name: axis[position] for (name, axis), position in positions if position is not None}

    def point_of(self, configuration: Configuration) -> Point | None:
        """Returns where a configuration of the space lies; None where it lies beside the grid."""
        point: list[int | None] = []
        for name, axis in self._axes.items():
            if name not in configuration:
                point.append(None)
                continue
            position = _position(self._space.parameters[name], axis, configuration[name])
            if position is None:
                return None
            point.append(position)
        return tuple(point)

    def _filled(self, begun: Point) -> Point:
        """Returns the first point that begins so."""
        names = list(self._axes)
        point = list(begun)
        known = self.configuration(begun)
        for name in names[len(begun) :]:
            if self._space.is_active(name, known):
                known[name] = self._axes[name][0]
                point.append(0)
            else:
                point.append(None)
        return tuple(point)

    def _is_too_large(self) -> bool:
        counts = {name: len(axis) for name, axis in self._axes.items()}
        if math.prod(counts.values()) <= LARGEST:
            return False  # conditions only make it smaller
        parameters = self._space.parameters
        parents = {parent for parameter in parameters.values() for parent in parameter.when or {}}
        others = [name for name in counts if name not in parents]
        total = 0
        for known in _assignments(self._space, {name: axis for name, axis in self._axes.items() if name in parents}):
            total += math.prod(counts[name] for name in others if self._space.is_active(name, known))
            if total > LARGEST:
                return True
        return False


def check_grid(space: Space, points: int | None) -> None:
    """Raises InvalidSpecification where the space has no grid, or one of more than a million configurations."""
    Grid(space, points)


def _too_large() -> InvalidSpecification:
    return InvalidSpecification(
        f"search.engine: the grid has more than {LARGEST:,} configurations; "
        "give it fewer values, larger steps or fewer points, or take sobol or random"
    )


def _assignments(space: Space, axes: dict[str, Axis]) -> Iterator[dict[str, Value]]:
    """Yields every assignment of the parameters that others depend on, parents before children."""
    whole = [name for name in space.parameters if name in axes]

    def extend(index: int, known: dict[str, Value]) -> Iterator[dict[str, Value]]:
        if index == len(whole):
            yield known
        elif not space.is_active(whole[index], known):
            yield from extend(index + 1, known)
        else:
            for value in axes[whole[index]]:
                yield from extend(index + 1, {**known, whole[index]: value})

    return extend(0, {})


def _count(parameter: Parameter, points: int | None) -> int:
    """Returns how many values the parameter takes, at most; 0 where `points` is needed and not given."""
    if isinstance(parameter, Choice):
        return len(parameter.values)
    if isinstance(parameter, Int):
        whole = parameter.last_point + 1
        return min(whole, points) if parameter.log and points is not None else whole
    if parameter.step is not None:
        return parameter.last_point + 1
    return 1 if parameter.low == parameter.high else points or 0


def _axis(parameter: Parameter, points: int | None) -> Axis:
    """Returns the values that the parameter takes, in order, each once."""
    count = _count(parameter, points)
    if isinstance(parameter, Choice):
        return tuple(parameter.values)
    if isinstance(parameter, Int):
        whole = range(parameter.low, parameter.high + 1, parameter.step or 1)
        return whole if len(whole) == count else sorted({round(value) for value in _spread(parameter, count)})
    if parameter.step is not None:
        return [parameter.point(number) for number in range(count)]
    return sorted(set(_spread(parameter, count)))  # a range that is hardly one holds fewer numbers than it should


def _spread(parameter: Float | Int, points: int) -> list[float]:
    if points == 1:
        return [float(parameter.middle())]
    ends = float(parameter.low), float(parameter.high)
    low, high = (math.log(ends[0]), math.log(ends[1])) if parameter.log else ends
    inner = [low + (high - low) * (index / (points - 1)) for index in range(1, points - 1)]
    inner = [math.exp(value) for value in inner] if parameter.log else inner
    return [ends[0], *(min(ends[1], max(ends[0], value)) for value in inner), ends[1]]


def _position(parameter: Parameter, axis: Axis, value: Value) -> int | None:
    if isinstance(parameter, Choice):
        return parameter.position(value)
    if isinstance(axis, range):
        return axis.index(value) if isinstance(value, int) and value in axis else None
    numbers: Sequence[float] = axis  # type: ignore[assignment]  # of a range that is no choice
    assert isinstance(value, int | float)
    after = bisect_left(numbers, value)
    near = [position for position in (after - 1, after) if 0 <= position < len(numbers)]
    nearest = min(near, key=lambda position: abs(numbers[position] - value))
    gaps = [abs(numbers[nearest] - numbers[other]) for other in (nearest - 1, nearest + 1) if 0 <= other < len(numbers)]
    room = min(gaps) if gaps else abs(numbers[nearest])
    return nearest if abs(numbers[nearest] - value) <= BESIDE * room else None

"""Numbers in JSON, which has no word for one that is not finite."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def json_numbers(values: NDArray[Any]) -> NDArray[Any]:
    """Returns numbers as orjson writes them by itself: as short as their type allows, null where one is not finite."""
    return np.ascontiguousarray(values)


def finite_list(values: NDArray[Any]) -> list[Any]:
    """Returns nested lists, None where a value is not finite."""
    listed: list[Any] = values.tolist()
    if values.ndim == 2 and len(listed) == 1 and math.isfinite(sum(listed[0])):  # no sum with NaN or infinity is
        return listed
    return listed if np.isfinite(values).all() else _without_nan(listed)


def _without_nan(values: list[Any]) -> list[Any]:
    return [
        _without_nan(value) if isinstance(value, list) else value if math.isfinite(value) else None for value in values
    ]

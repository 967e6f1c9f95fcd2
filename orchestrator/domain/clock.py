"""The clock that is passed in, so that a study can live on a virtual one."""

from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds since the epoch."""

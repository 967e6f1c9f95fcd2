"""Python's collector of cycles, out of the way while a whole study is taken in or written down."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Lets it rest: it would look through all trials again and again, which costs a third of a long replay."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

"""What a trial changed in its process is put back before the next one begins.

Seeds, thread counts, the default dtype, the environment, the working directory and logging: a trial must not see what
the one before it left behind, and finds its own things as it left them when it goes on after another trial's turn.
Modules that were never imported are left alone.
"""

import logging
import os
import random
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

Restore = Callable[[], None]
"""Puts something back as it was."""


class Surroundings:
    """The process as one trial sees it: a context manager, entered for each stretch of the trial's work.

    The first time the global generators are seeded; after that they go on where they were, so that it makes no
    difference into how many stretches the work is cut.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._own: list[Restore] | None = None
        self._outer: list[Restore] = []

    def __enter__(self) -> None:
        self._outer = _capture()
        if self._own is None:
            seed_globals(self._seed)
        else:
            _restore(self._own)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._own = _capture()
        _restore(self._outer)


def seed_globals(seed: int) -> None:
    """Seeds the global generators of the libraries that are loaded."""
    random.seed(seed)
    numpy, torch = sys.modules.get("numpy"), _loaded_torch()
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    if torch is not None:
        torch.manual_seed(seed)


def _capture() -> list[Restore]:
    return [_environment(), _directory(), _logging(), _generators(), *_torch()]


def _restore(parts: list[Restore]) -> None:
    for put_back in parts:
        put_back()


def _environment() -> Restore:
    before = dict(os.environ)

    def put_back() -> None:
        if dict(os.environ) != before:
            os.environ.clear()
            os.environ.update(before)

    return put_back


def _directory() -> Restore:
    before = os.getcwd()
    return lambda: os.chdir(before)


def _logging() -> Restore:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)

    def put_back() -> None:
        root.setLevel(level)
        root.handlers[:] = handlers

    return put_back


def _generators() -> Restore:
    numpy, torch = sys.modules.get("numpy"), _loaded_torch()
    plain = random.getstate()
    of_numpy = numpy.random.get_state() if numpy is not None else None
    of_torch = torch.get_rng_state() if torch is not None else None

    def put_back() -> None:
        random.setstate(plain)
        if numpy is not None:
            numpy.random.set_state(of_numpy)
        if torch is not None:
            torch.set_rng_state(of_torch)

    return put_back


def _torch() -> list[Restore]:
    torch = _loaded_torch()
    if torch is None:
        return []
    dtype, threads, grad = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()

    def put_back() -> None:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)

    return [put_back]


def _loaded_torch() -> Any:
    """Returns torch where it is imported, and imported whole."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and hasattr(torch, "get_num_threads") else None

"""What a trial changed in its process is put back before the next one begins.

Seeds, thread counts, the default dtype, the environment, the working directory and logging: a trial must not see what
the one before it left behind. Modules that were never imported are left alone.
"""

import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def tidy_process(seed: int) -> Iterator[None]:
    """Seeds the global generators for one trial, and puts the process back as it was afterwards."""
    environment, directory = dict(os.environ), os.getcwd()
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    torch_before = _torch_state()
    seed_globals(seed)
    try:
        yield
    finally:
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        if os.getcwd() != directory:
            os.chdir(directory)
        root.setLevel(level)
        root.handlers[:] = handlers
        _restore_torch(torch_before)


def seed_globals(seed: int) -> None:
    """Seeds the global generators of the libraries that are loaded."""
    random.seed(seed)
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(seed)


def _torch_state() -> tuple[Any, ...] | None:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_num_threads"):
        return None
    return torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()


def _restore_torch(before: tuple[Any, ...] | None) -> None:
    torch = sys.modules.get("torch")
    if torch is None or before is None:
        return
    dtype, threads, grad = before
    if torch.get_default_dtype() != dtype:
        torch.set_default_dtype(dtype)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    if torch.is_grad_enabled() != grad:
        torch.set_grad_enabled(grad)

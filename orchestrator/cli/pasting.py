"""Command lines that people are told to paste: they work in the folder, and with the PATH, that this one had."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from orchestrator.cli.options import DEFAULT_STORAGE
from orchestrator.journal import AnyStorage, Storage

PROGRAM = "orchestrator"


def program_word() -> str:
    """Returns what calls this program: its name where the PATH finds it, else the path by which it was called."""
    called = Path(sys.argv[0])
    found = shutil.which(PROGRAM)
    if called.name != PROGRAM or (found is not None and os.path.realpath(found) == os.path.realpath(called)):
        return PROGRAM
    return str(called)


def pasted(*words: str, storage: AnyStorage | None = None) -> str:
    """Returns a command line for a shell; a storage that is the default one is left out."""
    is_default = storage is None or Storage.of(storage) == Storage.of(DEFAULT_STORAGE)
    return shlex.join([program_word(), *words, *([] if is_default else ["--storage", str(storage)])])

"""What nothing refers to any more is taken away: superseded checkpoints, and what a crash left half written.

Only to be called while no worker of the study runs: a checkpoint is published before it is reported, and until then
nothing refers to it.
"""

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from orchestrator.study import Layout


def leftovers(layout: Layout, checkpoints: Iterable[str], bundles: Iterable[str]) -> list[Path]:
    """Returns what lies in a study's directory and is referred to by none of the addresses, sorted."""
    kept = {Path(uri) for uri in (*checkpoints, *bundles)}
    there = [*_checkpoints(layout.checkpoints), *_entries(layout.bundles)]
    return sorted(path for path in there if path not in kept)


def sweep(layout: Layout, checkpoints: Iterable[str], bundles: Iterable[str]) -> list[Path]:
    """Removes the leftovers and returns what they were."""
    found = leftovers(layout, checkpoints, bundles)
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    for trial in _entries(layout.checkpoints):
        if not any(trial.iterdir()):
            trial.rmdir()
    return found


def _checkpoints(directory: Path) -> Iterator[Path]:
    for trial in _entries(directory):
        yield from _entries(trial)


def _entries(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.is_dir()) if directory.is_dir() else []

"""A journal that another process writes, read again and again: what was read before is not read twice.

Whole records never vanish from a file, so of the newest one only what came since is read. Another file means another
epoch, whose seal may have undone a former writer's last records: then everything is read anew.
"""

from pathlib import Path
from typing import Any

from orchestrator.domain.errors import JournalDamaged
from orchestrator.journal.files import EpochFile, Log, batches_from, epoch_files


class GrowingLog:
    """Reads a journal's directory as it grows. Used by one thread at a time; never writes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: list[EpochFile] = []
        self._end = 0  # of what was read of the newest file

    def read(self) -> tuple[bool, list[list[dict[str, Any]]]]:
        """Returns whether everything was read anew, and the batches: all of them, or those since the last call.

        Raises:
            StorageError: the directory cannot be read.
            JournalDamaged, JournalTooNew: see `Log`.
        """
        files = epoch_files(self._directory)
        if files and files == self._files:
            try:
                batches, self._end = batches_from(files[-1].path, self._end)
                return False, batches
            except JournalDamaged:  # read from its beginning the error names the place
                pass
        self._files = []
        log = Log.of(files)
        whole = [*Log(log.files[:-1], log.gap).read()]
        newest, end = batches_from(log.files[-1][0].path, 0) if log.files else ([], 0)
        if log.files and log.files[-1][0] == files[-1]:  # else its header is being written: read all again
            self._files, self._end = files, end
        return True, whole + newest

"""The places where a journal can be stored, each with its ways to be refused and damaged."""

import errno
import os

from orchestrator.domain.errors import StorageError
from orchestrator.journal import ObjectJournal, Storage, open_journal, read_journal, resume_journal
from orchestrator.journal import files as journal_files
from orchestrator.journal import segments as journal_segments
from orchestrator.journal.segments import read_segments, resume_segments

BATCHES = [
    [{"type": "created", "study": "digits"}],
    [{"type": "started", "trial": 0}, {"type": "reported", "trial": 0, "metrics": {"loss": 0.25}, "note": None}],
    [{"type": "finished", "trial": 0, "text": "ä\n\x00", "list": [1, [True, "x"]]}],
]


class OnDisk:
    """A journal of append files."""

    def __init__(self, tmp_path):
        self.folder = tmp_path / "journal"
        self.format = "orchestrator.journal.local.FORMAT", journal_files.FORMAT + 1

    def open(self):
        return open_journal(self.folder)

    def read(self):
        return read_journal(self.folder)

    def refuse(self, monkeypatch):
        """Lets the storage take nothing, until the patch is undone."""

        def full(handle, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "write", full)

    def resume(self):
        return resume_journal(self.folder)

    def lose_events(self, journal):
        """Takes away the file of the first epoch; returns what the error says."""
        journal.path.unlink()
        return rf"{journal.path.name} is missing, or its header is"

    def damage(self, journal):
        """Flips a bit of the second batch; returns what the error says."""
        flip(journal.path, b"started")
        return rf"{journal.path.name}: record 2 at byte \d+ .*truncate -s \d+"


class AsObjects:
    """A journal of segments, on a disk that plays the object store."""

    def __init__(self, tmp_path):
        self.folder = tmp_path / "journal"
        self.spool = tmp_path / "spool"
        self.format = "orchestrator.journal.segments.FORMAT", journal_segments.FORMAT + 1

    def open(self):
        journal = ObjectJournal(Storage.of(f"file://{self.folder}"), spool=self.spool, ttl_seconds=0.6)
        journal.keep_renewed()
        return journal

    def read(self):
        return read_segments(Storage.of(f"file://{self.folder}"))

    def resume(self):
        return resume_segments(Storage.of(f"file://{self.folder}"))

    def lose_events(self, journal):
        name = f"{journal.epoch:08d}-{journal.writer}-00000001.seg"
        (self.folder / name).unlink()
        return rf"{name} is missing"

    def refuse(self, monkeypatch):
        def silent(storage, name, data):
            raise StorageError(f"{name}: no answer")

        monkeypatch.setattr(Storage, "write", silent)

    def damage(self, journal):
        path = self.folder / f"{journal.epoch:08d}-{journal.writer}-00000002.seg"
        flip(path, b"started")
        return rf"{path.name} does not check: record 1 at byte \d+; put back a copy of the object"


def flip(path, text):
    data = bytearray(path.read_bytes())
    data[data.index(text)] ^= 1
    path.write_bytes(data)


PLACES = {"local": OnDisk, "objects": AsObjects}

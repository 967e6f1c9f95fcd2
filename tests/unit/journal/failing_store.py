"""A journal in an object store that refuses, loses answers, and kills its user where a test wants it to."""

import os
from functools import partial

from orchestrator.domain.errors import StorageError
from orchestrator.journal import ObjectJournal, Storage
from orchestrator.journal.segments import read_segments

TTL = 0.6


def event(number):
    return [{"type": "started", "trial": number}]


class Died(BaseException):
    """The process ended here; nothing of it runs any more."""


class Failing:
    """A storage that refuses, or loses the answers to, as many writes as it is told; its user may die at a request."""

    def __init__(self, storage):
        self._storage = storage
        self.uri = storage.uri
        self.refuse = self.lose = 0
        self.dies_at = self.dies_after = None  # requests from now on
        self.requests = []

    def __getattr__(self, name):
        self.requests.append(name)
        return partial(self._request, getattr(self._storage, name))

    def _request(self, action, *arguments):
        if self.dies_at is not None:
            self.dies_at -= 1
            if self.dies_at < 0 or (self.dies_at == 0 and not self.dies_after):
                raise Died
        result = action(*arguments)
        if self.dies_at == 0:
            raise Died
        return result

    def delete_many(self, names):
        for name in names:
            self.delete(name)

    def write(self, name, data):
        self.requests.append("write")
        if self.refuse:
            self.refuse -= 1
            raise StorageError(f"{name}: refused")
        self._request(self._storage.write, name, data)
        if self.lose:
            self.lose -= 1
            raise StorageError(f"{name}: no answer")


class Place:
    """A journal's folder, its spool, and a clock that only the test moves."""

    def __init__(self, folder):
        self.folder = folder / "journal"
        self.store = Failing(Storage.of(f"file://{self.folder}"))
        self.spool = folder / "spool"
        self.now = 0.0
        self.slept = 0.0

    def sleep(self, seconds):
        self.now += seconds
        self.slept += seconds

    def open(self, host="a", spool=None):
        return ObjectJournal(
            self.store, spool=spool or self.spool, clock=lambda: self.now, sleep=self.sleep, ttl_seconds=TTL, host=host
        )

    def read(self):
        return list(read_segments(self.store))


def kill(journal):
    """What the end of its process does to a writer: its lock is gone, nothing else."""
    os.close(journal._spool._lock)
    journal._spool._lock = -1

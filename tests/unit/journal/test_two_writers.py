"""Several writers on one object journal under stalls, partitions, crashes and requests that arrive long afterwards.

The law: every acknowledged batch is in what any later reader sees, once and in its place; and whoever acknowledges
anything went on from a log that the final one begins with. Writers pack their segments and publish snapshots all the
while: what a snapshot says, with what comes behind it, is what all the events say.
"""

import os
from contextlib import suppress
from functools import partial

import orjson
import pytest
from store_world import Crash, Host, World

from orchestrator.domain.errors import ExchangeRefused, StorageError, StudyBusy
from orchestrator.journal import ObjectJournal
from orchestrator.journal.segments import read_segments, resume_segments

TTL = 10.0
END = 300.0


def after(state, batches):
    """What a snapshot and the batches behind it add up to."""
    return [tuple(at) for at in orjson.loads(state or b"[]")] + [tuple(e["at"]) for batch in batches for e in batch]


class History:
    """What was acknowledged to whom, and what each writer went on from."""

    def __init__(self, world):
        self.world = world
        self.acknowledged = []
        self.bases = []
        self.lives = self.openings = self.snapshots = 0

    def log(self):
        if not any(name.endswith((".seg", ".pack")) for name in self.world.objects):
            return []
        return [tuple(event["at"]) for batch in read_segments(self.world) for event in batch]

    def landed(self, name):
        if name.endswith(("-00000000.seg", ".pack", ".snapshot")):  # a new epoch begins, or the objects change
            self.check()

    def check(self):
        log = self.log()
        if log:
            state, rest = resume_segments(self.world)
            self.snapshots += state is not None
            assert after(state, rest) == log, "a snapshot that is not what the events say"
        assert len(set(log)) == len(log), "a batch happened twice"
        missing = set(self.acknowledged) - set(log)
        assert not missing, f"acknowledged, and gone: {sorted(missing)}"
        return log

    def check_at_the_end(self):
        log = self.check()
        for life in {life for life, _ in log}:
            own = [number for writer, number in log if writer == life]
            assert own == sorted(own), "out of order"
        for base in self.bases:
            assert log[: len(base)] == base, "somebody acknowledged on top of a log that never was"


def live(host, history, spool, name):
    """Opens, appends, loses the claim or dies, and opens again, until the world ends."""
    world = host.world
    while not world.ended:
        host.crashed, host.may_crash = False, True
        with suppress(StudyBusy, StorageError, Crash):
            write(host, history, spool, name)
        host.crashed = host.may_crash = False
        with suppress(Crash):
            host.sleep(world.random.choice([0.5, 3.0, 9.0]))


def write(host, history, spool, name):
    history.lives += 1
    writer = f"{name}.{history.lives}"
    journal = ObjectJournal(
        host, spool=spool, clock=host.clock, sleep=host.sleep, ttl_seconds=TTL, host=name, writer=writer
    )
    history.openings += 1
    life, number, waiting = writer, 0, []
    try:
        state, rest = journal.resume()
        base = after(state, rest)
        known = list(base)
        renewed = host.clock()
        while not host.world.ended and host.world.random.random() > 0.03:
            durable = host.world.random.random() < 0.5
            waiting.append((life, number))
            known.append((life, number))
            number += 1
            with suppress(StorageError):  # it stays, and goes with the next one
                journal.append([{"at": waiting[-1]}], durable=durable)
                if durable:
                    if base is not None:
                        history.bases.append(base)
                        base = None
                    history.acknowledged += waiting
                    waiting = []
            if host.world.random.random() < 0.1:
                with suppress(StorageError):  # nobody hears of it
                    journal.compact(orjson.dumps(known))
            host.sleep(host.world.random.choice([0.05, 0.5, 2.0]))
            if host.clock() - renewed > TTL / 6:
                with suppress(StorageError):
                    journal.renew()
                    renewed = host.clock()
        journal.close()
    except ExchangeRefused:
        journal.close()
    finally:
        _die(journal)


def _die(journal):
    """Takes the process's lock away as its end would, and leaves its spool."""
    with suppress(OSError):
        os.close(journal._spool._lock)
    journal._spool._lock = -1
    journal._spool._close()


def play(seed, folder):
    """Returns the history of one schedule, its laws checked."""
    world = World(seed)
    history = History(world)
    world.on_landing = history.landed
    trouble = (0.0, 0.005, 0.015, 0.04)[seed % 4]
    for number in range(2 + seed % 3 // 2):
        spool = folder / f"{seed}-{number}"
        life = partial(live, history=history, spool=spool, name=f"host{number}")
        world.start(Host(world, trouble=trouble), life)
    try:
        world.run(END)
        history.check_at_the_end()
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
    return history


@pytest.mark.parametrize("block", range(10))
def test_only_one_of_several_writers_is_ever_believed(block, tmp_path, monkeypatch):
    if block % 2:
        monkeypatch.setattr("orchestrator.journal.objects.PACKED_AT", 4)
        monkeypatch.setattr("orchestrator.journal.objects.TIDIED_AT", 2)
    histories = [play(seed, tmp_path) for seed in range(30 * block, 30 * block + 30)]
    assert sum(len(history.acknowledged) for history in histories) > 1000, "no test where little is acknowledged"
    assert sum(history.snapshots for history in histories) > 100, "no test where none counts"
    assert sum(history.openings for history in histories) > 100, "no test where the writer never changes"

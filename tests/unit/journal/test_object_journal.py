"""The object journal's own laws: segments, the spool, the seal, a storage that fails for a while."""

import os
import threading
import time
from functools import partial

import orjson
import pytest
from store_world import Host, World
from two_processes import stop_and_go_on

from orchestrator.domain.errors import ExchangeRefused, JournalDamaged, StorageError, StudyBusy
from orchestrator.journal import ObjectJournal, Storage
from orchestrator.journal.segments import listed, read_segments, resume_segments

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


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def kill(journal):
    """What the end of its process does to a writer: its lock is gone, nothing else."""
    os.close(journal._spool._lock)
    journal._spool._lock = -1


def test_a_durable_append_is_one_request(place):
    journal = place.open()
    place.store.requests.clear()
    for number in range(10):
        journal.append(event(number), durable=number % 5 == 4)
    assert place.store.requests == ["write", "write"]
    assert [segment.last for segment in listed(place.store.sizes())] == [0, 1, 2]
    assert place.read() == list(journal.read()) == [event(number) for number in range(10)]


def test_what_is_not_durable_is_read_by_the_writer_and_spooled(place):
    journal = place.open()
    journal.append(event(0))
    journal.append(event(1), durable=False)
    assert place.read() == [event(0)]
    assert list(journal.read()) == [event(0), event(1)]
    assert len(list(place.spool.rglob("*.spool"))) == 1
    journal.append([])
    assert place.read() == [event(0), event(1)]
    assert list(place.spool.rglob("*.spool")) == []


def test_a_writer_that_starts_again_on_its_host_finds_what_it_had_spooled_and_does_not_wait(place):
    former = place.open()
    former.append(event(0))
    former.append(event(1), durable=False)
    former.append(event(2), durable=False)
    kill(former)
    journal = place.open()
    assert place.slept == 0
    assert place.read() == [event(0), event(1), event(2)]
    journal.append(event(3))
    kill(journal)
    assert list(place.open().read()) == [event(0), event(1), event(2), event(3)]
    assert list(place.spool.rglob("*.spool")) == []


def test_a_writer_on_another_host_waits_the_whole_time_to_live(place, tmp_path):
    former = place.open()
    former.append(event(0))
    former.append(event(1), durable=False)
    journal = place.open(host="b", spool=tmp_path / "other")
    assert TTL <= place.slept < 1.2 * TTL
    journal.append(event(2))
    with pytest.raises(ExchangeRefused, match=r"epoch 1 .* is over: process \d+ on host b has taken over; end this"):
        former.append(event(3))
    with pytest.raises(StorageError, match="a later writer has taken over; open the journal again"):
        former.append(event(4))
    assert place.read() == [event(0), event(2)]
    former.close()
    journal.close()


def test_what_was_spooled_before_another_host_went_on_stands_for_nothing(place, tmp_path):
    former = place.open()
    former.append(event(0), durable=False)
    between = place.open(host="b", spool=tmp_path / "other")
    between.append(event(1))
    between.close()
    kill(former)
    assert list(place.open().read()) == [event(1)]


def test_a_batch_that_the_storage_refused_stays_and_goes_first(place):
    journal = place.open()
    journal.append(event(0), durable=False)
    place.store.refuse = 1
    with pytest.raises(StorageError, match="refused"):
        journal.append(event(1))
    assert list(journal.read()) == [event(0), event(1)]
    journal.append(event(2), durable=False)
    journal.append([])
    assert place.read() == list(journal.read()) == [event(0), event(1), event(2)]


def test_a_batch_whose_answer_was_lost_is_there_once(place):
    journal = place.open()
    place.store.lose = 1
    with pytest.raises(StorageError, match="no answer"):
        journal.append(event(0))
    assert list(journal.read()) == [event(0)]
    journal.append(event(1))
    assert place.read() == list(journal.read()) == [event(0), event(1)]


@pytest.mark.parametrize("fault", ["refuse", "lose"])
def test_a_writer_that_dies_with_a_refused_batch_leaves_no_gap(place, fault):
    former = place.open()
    former.append(event(0), durable=False)
    setattr(place.store, fault, 1)
    with pytest.raises(StorageError):
        former.append(event(1))
    former.append(event(2), durable=False)
    kill(former)
    assert list(place.open().read()) == [event(0), event(1), event(2)]


def test_closing_on_a_storage_that_fails_says_so_and_loses_nothing(place):
    journal = place.open()
    journal.append(event(0), durable=False)
    place.store.refuse = 1
    with pytest.raises(StorageError, match="refused"):
        journal.close()
    journal.close()
    assert list(place.open().read()) == [event(0)]


def test_an_opening_that_fails_at_its_first_segment_is_outnumbered(place):
    place.open().close()
    write = place.store.write

    def lose_the_first_segment(name, data):
        write(name, data)
        if name.endswith("-00000000.seg"):
            raise StorageError("no answer")

    place.store.write = lose_the_first_segment
    with pytest.raises(StorageError, match="no answer"):
        place.open()
    place.store.write = write
    journal = place.open()
    assert journal.epoch == 3
    journal.append(event(0))
    assert place.read() == [event(0)]
    assert place.slept == 0


def test_a_late_segment_of_a_former_writer_never_happened(place, tmp_path):
    former = place.open()
    former.append(event(0))
    journal = place.open(host="b", spool=tmp_path / "other")
    with pytest.raises(ExchangeRefused):
        former.append(event(1))  # it is put, behind the seal
    assert len(listed(place.store.sizes())) == 4
    journal.append(event(2))
    assert place.read() == list(journal.read()) == [event(0), event(2)]


def test_a_writer_that_paused_where_nobody_came_goes_on_after_a_look(place):
    journal = place.open()
    place.now += 100 * TTL
    place.store.requests.clear()
    journal.append(event(0))
    assert place.store.requests == ["write", "write", "sizes"]
    journal.append(event(1))
    assert place.read() == [event(0), event(1)]


def test_a_renewal_keeps_others_out(place, tmp_path):
    journal = place.open()
    sleep = place.sleep
    place.sleep = lambda seconds: (sleep(seconds), journal.renew())
    with pytest.raises(StudyBusy, match=r"written by process \d+ on host a; .*until it ends \(and 0\.6 s longer\)"):
        place.open(host="b", spool=tmp_path / "other")
    journal.append(event(0))
    assert [name for name in place.store.sizes() if "claims/" in name] == [journal._lease._claim.name]


def test_a_writer_that_cannot_look_does_not_acknowledge(place):
    journal = place.open()
    place.now += TTL
    sizes = place.store._storage.sizes
    place.store.sizes = lambda prefix="": (_ for _ in ()).throw(StorageError("no answer"))
    with pytest.raises(StorageError, match="no answer"):
        journal.append(event(0))
    place.store.sizes = sizes
    journal.append([])
    assert place.read() == [event(0)]


def test_a_missing_segment_is_named(place):
    journal = place.open()
    for number in range(4):
        journal.append(event(number))
    journal.close()
    name = f"{journal.epoch:08d}-{journal.writer}-00000002.seg"
    place.store.delete(name)
    for attempt in (place.read, place.open):
        with pytest.raises(JournalDamaged, match=rf"{name} is missing; put back a copy"):
            attempt()


def test_a_missing_segment_at_the_end_of_a_sealed_epoch_is_named(place):
    first = place.open()
    first.append(event(0))
    first.close()
    place.open().close()
    place.store.delete(f"{first.epoch:08d}-{first.writer}-00000001.seg")
    with pytest.raises(JournalDamaged, match=rf"00000001-{first.writer}-00000001\.seg is missing"):
        place.read()


def test_a_segment_under_another_name_is_seen(place):
    journal = place.open()
    journal.append(event(0))
    journal.append(event(1))
    journal.close()
    names = [segment.name for segment in listed(place.store.sizes())]
    place.store.write(names[2], place.store.find(names[1]))
    with pytest.raises(JournalDamaged, match=r"-00000002\.seg is another one's copy: it says number 1"):
        place.read()


def test_a_claim_that_is_none_is_an_error_that_names_it(place):
    place.store.write("claims/00000001-somebody.1", b"[]")
    with pytest.raises(StorageError, match=r"claims/00000001-somebody\.1 is no claim of a journal's writer"):
        place.open()


def test_other_objects_are_left_alone(place):
    place.store.write("notes.txt", b"mine")
    place.open().close()
    assert place.read() == []
    assert place.store.find("notes.txt") == b"mine"


def test_a_missing_journal_cannot_be_read(place):
    with pytest.raises(StorageError, match="journal cannot be read: there is none; check the address"):
        place.read()


def test_many_small_batches_do_not_wait_for_ever(place, monkeypatch):
    monkeypatch.setattr("orchestrator.journal.objects.BUFFER_BYTES", 200)
    journal = place.open()
    for number in range(20):
        journal.append(event(number), durable=False)
    assert 10 < len(place.read()) < 20
    assert journal.size_bytes == sum(place.store.sizes("0").values()) + sum(map(len, journal._buffer))


def test_a_full_spool_is_an_error_of_what_is_not_durable_and_stops_nothing_else(place, monkeypatch):
    journal = place.open()

    def full(handle, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("orchestrator.journal.spool.os.write", full)
    with pytest.raises(StorageError, match=r"spool in .* cannot be written: No space left on device; free"):
        journal.append(event(0), durable=False)
    journal.append(event(1))
    monkeypatch.undo()
    journal.append(event(2), durable=False)
    journal.append(event(3))
    assert place.read() == [event(0), event(1), event(2), event(3)]


def test_the_clocks_of_two_hosts_are_never_compared(place, tmp_path):
    former = place.open()
    place.now -= 1e6  # a host that started much later
    journal = place.open(host="b", spool=tmp_path / "other")
    assert place.slept >= TTL
    journal.append(event(0))
    former.close()


@pytest.mark.parametrize("hosts", [2, 3, 5])
def test_of_several_that_open_at_one_moment_exactly_one_wins(hosts, tmp_path):
    for seed in range(60):
        world, won, busy = World(seed), [], []

        def life(host, name, won=won, busy=busy, spool=tmp_path / f"{hosts}-{seed}"):
            host.sleep(host.world.random.uniform(0, 0.4))
            try:
                journal = ObjectJournal(
                    host,
                    spool=spool / name,
                    clock=host.clock,
                    sleep=host.sleep,
                    ttl_seconds=60.0,
                    host=name,
                    writer=name,
                )
            except StudyBusy as error:
                busy.append(str(error))
                return
            won.append(name)
            while len(won) + len(busy) < hosts:
                host.sleep(1.0)
                journal.renew()

        for number in range(hosts):
            world.start(Host(world, trouble=0.0), partial(life, name=f"host{number}"))
        world.run(1e9)
        assert len(won) == 1, f"seed {seed}: {won} won"
        assert all("is being written by process" in message for message in busy), busy


def test_a_thread_keeps_the_claim_of_a_writer_that_has_nothing_to_say(tmp_path):
    storage = Storage.of(f"file://{tmp_path / 'journal'}")
    journal = ObjectJournal(storage, spool=tmp_path / "a", ttl_seconds=TTL)
    journal.keep_renewed()
    with pytest.raises(StudyBusy):
        ObjectJournal(storage, spool=tmp_path / "b", ttl_seconds=TTL)
    time.sleep(2 * TTL)
    journal.append(event(0))
    journal.close()
    assert "journal-lease" not in [thread.name for thread in threading.enumerate()]
    ObjectJournal(storage, spool=tmp_path / "b", ttl_seconds=TTL).close()


def test_of_two_processes_one_of_which_was_stopped_only_one_is_believed(tmp_path):
    stop_and_go_on(f"file://{tmp_path / 'journal'}", tmp_path)


# --- packs and snapshots -------------------------------------------------------------------------------------------


@pytest.fixture
def soon(monkeypatch):
    """Packs after every fourth segment, and tidies after two."""
    monkeypatch.setattr("orchestrator.journal.objects.PACKED_AT", 4)
    monkeypatch.setattr("orchestrator.journal.objects.TIDIED_AT", 2)


def kinds(place):
    return [piece.name.rpartition(".")[2] for piece in listed(place.store.sizes())]


def test_a_writer_packs_its_segments_now_and_then(place, soon):
    journal = place.open()
    for number in range(11):
        journal.append(event(number))
    assert kinds(place) == ["pack"] * 3
    journal.append(event(11))
    assert kinds(place) == ["pack"] * 3 + ["seg"]
    assert place.read() == list(journal.read()) == [event(number) for number in range(12)]
    assert journal.size_bytes == sum(place.store.sizes("0").values())


def test_a_hundred_thousand_batches_are_some_hundred_objects(place):
    journal = place.open()
    for number in range(2_000):
        journal.append(event(number))
    assert len(place.store.sizes()) < 2_000 / 256 + 256 + 1
    journal.close()
    journal = place.open()
    assert len(listed(place.store.sizes())) == 9, "what the last epoch left is packed by the next"
    assert [batch[0]["trial"] for batch in journal.read()] == list(range(2_000))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_writer_that_dies_at_any_request_of_a_compaction_loses_nothing(tmp_path, soon, after):
    for dies_at in range(1, 100):
        place = Place(tmp_path / f"{dies_at}")
        journal = place.open()
        for number in range(2):
            journal.append(event(number))
        journal.compact(b"[0,1]")
        place.store.dies_at, place.store.dies_after = dies_at, after
        try:
            journal.append(event(2))  # packs
            journal.append(event(3), durable=False)
            journal.compact(b"[0,1,2,3]")
            journal.append(event(4))
            journal.compact(b"[0,1,2,3,4]")  # takes the oldest away
            died = False
        except Died:
            died = True
        place.store.dies_at = None
        kill(journal)
        successor = place.open()
        numbers = [batch[0]["trial"] for batch in successor.read()]
        assert numbers in ([0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]), "what was acknowledged or spooled, no gap"
        state, rest = successor.resume()
        assert [*orjson.loads(state), *[batch[0]["trial"] for batch in rest]] == numbers
        successor.append(event(9))
        assert [batch[0]["trial"] for batch in place.read()] == [*numbers, 9]
        successor.close()
        if not died:
            assert dies_at > 10, "no test where nothing dies"
            return
    raise AssertionError("a compaction has no end")


def test_a_reader_goes_on_where_segments_were_packed_under_its_eyes(place, soon):
    journal = place.open()
    for number in range(2):
        journal.append(event(number))
    reader = read_segments(Unhurried(place.store))
    assert next(reader) == event(0)
    for number in range(2, 6):
        journal.append(event(number))
    assert "seg" in kinds(place)
    assert list(reader)[:1] == [event(1)]


class Unhurried:
    """A store whose objects are asked for one by one, as they are read."""

    def __init__(self, store):
        self._store = store
        self.uri = store.uri

    def __getattr__(self, name):
        return getattr(self._store, name)

    def read_many(self, names):
        for name in names:
            yield next(self._store.read_many([name]))


def test_a_pack_of_a_fenced_writer_ends_at_the_seal_and_its_snapshot_counts_for_nothing(place, soon, tmp_path):
    former = place.open()
    former.append(event(0))
    former.append(event(1))
    between = place.open(host="b", spool=tmp_path / "other")
    former._lease.ensure = lambda: None  # whatever it does from now on, it does not know better
    former.append(event(2))  # behind the seal, and packed with the others
    former.compact(b"[0,1,2]")
    assert any(
        piece.is_pack and piece.writer == former.writer and piece.last == 3 for piece in listed(place.store.sizes())
    )
    between.append(event(3))
    assert place.read() == list(between.read()) == [event(0), event(1), event(3)]
    state, rest = resume_segments(place.store)
    assert (state, list(rest)) == (None, [event(0), event(1), event(3)])


def test_a_fenced_writer_may_not_compact(place, tmp_path):
    former = place.open()
    former.append(event(0))
    place.open(host="b", spool=tmp_path / "other")
    with pytest.raises(ExchangeRefused):
        former.compact(b"[0]")
    assert not [name for name in place.store.sizes() if name.endswith(".snapshot")]


def test_a_storage_that_takes_no_pack_stops_nothing_and_gets_it_later(place, soon):
    journal = place.open()
    write = place.store.write

    def refuse_packs(name, data):
        if name.endswith(".pack"):
            raise StorageError("refused")
        write(name, data)

    place.store.write = refuse_packs
    for number in range(6):
        journal.append(event(number))
    assert "pack" not in kinds(place)
    place.store.write = write
    for number in range(6, 9):
        journal.append(event(number))
    assert kinds(place)[0] == "pack"
    assert place.read() == [event(number) for number in range(9)]


def test_a_damaged_pack_is_named(place, soon):
    journal = place.open()
    for number in range(3):
        journal.append(event(number))
    (name,) = (piece.name for piece in listed(place.store.sizes()))
    data = bytearray(place.store.find(name))
    data[-6] ^= 1
    place.store.write(name, bytes(data))
    with pytest.raises(JournalDamaged, match=rf"{name} does not check"):
        place.read()

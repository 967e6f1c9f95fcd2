"""The object journal's own laws: segments, the spool, the seal, a storage that fails for a while."""

import threading
import time
from functools import partial

import pytest
from failing_store import TTL, event, kill
from store_world import Host, World
from two_processes import stop_and_go_on

from orchestrator.domain.errors import ExchangeRefused, JournalDamaged, StorageError, StudyBusy
from orchestrator.journal import ObjectJournal, Storage
from orchestrator.journal.segments import listed


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

"""One suite for every journal: each sentence of the port's docstrings is a test. Snapshots have a file of their own."""

import math
import os

import pytest
from journal_places import BATCHES, OnDisk

from orchestrator.domain.errors import JournalDamaged, JournalTooNew, StorageError, StudyBusy
from orchestrator.journal import open_journal, read_journal


@pytest.fixture
def local(tmp_path):
    opened = open_journal(tmp_path / "journal")
    yield opened
    opened.close()


def test_batches_are_read_in_the_order_of_their_appends(journal):
    for number, batch in enumerate(BATCHES):
        journal.append(batch, durable=number % 2 == 0)
    assert list(journal.read()) == BATCHES


def test_a_new_journal_is_empty(journal):
    assert list(journal.read()) == []


def test_an_append_of_nothing_is_no_batch(journal):
    journal.append([])
    journal.append([], durable=False)
    assert list(journal.read()) == []


def test_reading_twice_gives_the_same_and_copies_of_its_own(journal):
    journal.append(BATCHES[1])
    first = next(iter(journal.read()))
    first[0]["trial"] = 99
    assert list(journal.read()) == [BATCHES[1]]


def test_what_is_appended_cannot_be_changed_afterwards(journal):
    event = {"type": "started", "trial": 0}
    journal.append([event])
    event["trial"] = 1
    assert list(journal.read()) == [[{"type": "started", "trial": 0}]]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused_and_nothing_is_appended(journal, number):
    journal.append(BATCHES[0])
    with pytest.raises(ValueError, match=r"'metrics.loss\[1\]'; a journal takes finite numbers only"):
        journal.append([{"type": "reported", "none": None, "metrics": {"loss": [0.5, number]}}])
    assert list(journal.read()) == [BATCHES[0]]


def test_the_size_grows_with_each_append(journal):
    before = journal.size_bytes
    journal.append(BATCHES[1])
    assert journal.size_bytes > before


def test_closing_twice_does_nothing_and_a_closed_journal_takes_no_more(journal):
    journal.append(BATCHES[0])
    journal.close()
    journal.close()
    with pytest.raises(StorageError, match="closed"):
        journal.append(BATCHES[1])
    assert list(journal.read()) == [BATCHES[0]]


def test_a_durable_append_returns_after_the_storage_has_it(local, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    local.append(BATCHES[0], durable=False)
    assert synced == []
    local.append(BATCHES[1], durable=True)
    assert synced == [local.path.stat().st_size], "one fsync covers the batch and those before it"


def test_an_append_that_is_not_durable_is_with_the_operating_system(local, tmp_path):
    local.append(BATCHES[0], durable=False)
    assert list(read_journal(tmp_path / "journal")) == [BATCHES[0]]


def test_what_is_durable_is_seen_by_every_reader_with_what_was_appended_before(stored, place):
    stored.append(BATCHES[0], durable=False)
    stored.append(BATCHES[1], durable=True)
    assert list(place.read()) == BATCHES[:2]


def test_what_the_storage_refused_is_the_journals_and_goes_first(stored, place, monkeypatch):
    stored.append(BATCHES[0])
    place.refuse(monkeypatch)
    for batch in ([*BATCHES[1]], []):
        with pytest.raises(StorageError):
            stored.append(batch)
    monkeypatch.undo()
    stored.append(BATCHES[2])
    assert list(place.read()) == BATCHES


def test_an_append_of_nothing_brings_what_the_storage_refused(stored, place, monkeypatch):
    place.refuse(monkeypatch)
    with pytest.raises(StorageError):
        stored.append(BATCHES[0])
    monkeypatch.undo()
    stored.append([])
    assert list(place.read()) == BATCHES[:1]


def test_closing_brings_what_the_storage_refused(stored, place, monkeypatch):
    place.refuse(monkeypatch)
    with pytest.raises(StorageError):
        stored.append(BATCHES[0])
    monkeypatch.undo()
    stored.close()
    assert list(place.read()) == BATCHES[:1]


def test_any_number_of_readers_read_while_the_writer_writes(stored, place):
    stored.append(BATCHES[0])
    readers = [place.read() for _ in range(3)]
    stored.append(BATCHES[1])
    assert all(next(reader) == BATCHES[0] for reader in readers)


def test_there_is_one_writer_at_a_time(stored, place):
    with pytest.raises(StudyBusy, match=f"process {os.getpid()} on host .*one writer at a time"):
        place.open()
    stored.append(BATCHES[0])


def test_closing_releases_the_claim_and_the_next_writer_goes_on(stored, place):
    stored.append(BATCHES[0])
    stored.append(BATCHES[1], durable=False)
    stored.close()
    successor = place.open()
    successor.append(BATCHES[2])
    assert list(successor.read()) == list(place.read()) == BATCHES
    assert successor.epoch == stored.epoch + 1
    successor.close()


def test_a_record_before_the_last_one_that_does_not_check_is_named(stored, place):
    for batch in BATCHES:
        stored.append(batch)
    stored.close()
    message = place.damage(stored)
    with pytest.raises(JournalDamaged, match=message):
        list(place.read())


def test_a_local_journal_that_is_damaged_is_not_gone_on_from(tmp_path):
    place = OnDisk(tmp_path)
    journal = place.open()
    for batch in BATCHES:
        journal.append(batch)
    journal.close()
    place.damage(journal)
    before = sorted(place.folder.iterdir())
    with pytest.raises(JournalDamaged):
        place.open()
    assert sorted(place.folder.iterdir()) == before


def test_a_newer_format_is_refused(place, monkeypatch):
    monkeypatch.setattr(*place.format)
    place.open().close()
    monkeypatch.undo()
    with pytest.raises(JournalTooNew, match="has format 2, and this version of the program reads up to 1; install"):
        list(place.read())
    with pytest.raises(JournalTooNew):
        place.open()

"""One suite for every journal: each sentence of the port's docstrings is a test."""

import errno
import json
import math
import os
from pathlib import Path

import pytest

from orchestrator.domain.errors import JournalDamaged, JournalTooNew, StorageError, StudyBusy
from orchestrator.journal import MemoryJournal, ObjectJournal, Storage, open_journal, read_journal, resume_journal
from orchestrator.journal import files as journal_files
from orchestrator.journal import segments as journal_segments
from orchestrator.journal import snapshots as journal_snapshots
from orchestrator.journal.disk import Disk
from orchestrator.journal.packs import PackHeader
from orchestrator.journal.segments import read_segments, resume_segments
from orchestrator.journal.snapshots import Place

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


def resumed(given):
    state, batches = given
    return state, list(batches)


def snapshot_paths(place):
    return sorted(place.folder.glob("*.snapshot"))


PLACES = {"local": OnDisk, "objects": AsObjects}


@pytest.fixture(params=PLACES)
def place(request, tmp_path):
    return PLACES[request.param](tmp_path)


@pytest.fixture(params=["memory", *PLACES])
def journal(request, tmp_path):
    opened = MemoryJournal() if request.param == "memory" else PLACES[request.param](tmp_path).open()
    yield opened
    opened.close()


@pytest.fixture
def stored(place):
    opened = place.open()
    yield opened
    opened.close()


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


# --- snapshots -----------------------------------------------------------------------------------------------------

STATES = [b'{"seen":1}', b'{"seen":2}', b'{"seen":3}']


def test_without_a_snapshot_one_begins_at_the_beginning(journal):
    assert resumed(journal.resume()) == (None, [])
    journal.append(BATCHES[0])
    assert resumed(journal.resume()) == (None, [BATCHES[0]])


def test_a_snapshot_saves_a_reader_the_beginning_and_every_batch_stays(journal):
    journal.append(BATCHES[0])
    journal.append(BATCHES[1], durable=False)
    journal.compact(STATES[0])
    assert resumed(journal.resume()) == (STATES[0], [])
    journal.append(BATCHES[2], durable=False)
    assert resumed(journal.resume()) == (STATES[0], [BATCHES[2]])
    assert list(journal.read()) == BATCHES


def test_the_newest_snapshot_counts_in_this_life_and_the_next(stored, place):
    for batch, state in zip(BATCHES, STATES, strict=True):
        stored.append(batch)
        stored.compact(state)
    assert len(snapshot_paths(place)) == journal_snapshots.KEPT
    assert resumed(place.resume()) == (STATES[2], [])
    stored.close()
    successor = place.open()
    successor.append(BATCHES[0])
    assert resumed(successor.resume()) == resumed(place.resume()) == (STATES[2], [BATCHES[0]])
    successor.compact(STATES[0])
    assert resumed(place.resume()) == (STATES[0], [])
    assert list(place.read()) == [*BATCHES, BATCHES[0]]
    successor.close()


@pytest.mark.parametrize("size", [0, 5, 60, -1])
def test_a_snapshot_cut_at_any_place_is_as_if_it_were_not_there(stored, place, size):
    stored.append(BATCHES[0])
    stored.compact(STATES[0])
    stored.append(BATCHES[1])
    stored.compact(STATES[1])
    newest = snapshot_paths(place)[-1]
    newest.write_bytes(newest.read_bytes()[:size])
    assert resumed(place.resume()) == (STATES[0], [BATCHES[1]])
    snapshot_paths(place)[0].write_bytes(newest.read_bytes())
    assert resumed(place.resume()) == (None, BATCHES[:2])


def test_a_bit_flipped_anywhere_in_a_snapshot_is_noticed(stored, place):
    stored.append(BATCHES[0])
    stored.compact(STATES[0])
    path = snapshot_paths(place)[0]
    whole = path.read_bytes()
    for byte in range(len(whole)):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 4]) + whole[byte + 1 :])
        assert resumed(place.resume()) == (None, BATCHES[:1]), byte


def test_a_snapshot_of_another_format_or_place_is_as_if_it_were_not_there(stored, place, monkeypatch):
    stored.append(BATCHES[0])
    monkeypatch.setattr(journal_snapshots, "FORMAT", 2)
    stored.compact(STATES[0])
    monkeypatch.undo()
    assert resumed(place.resume()) == (None, BATCHES[:1])
    stored.compact(STATES[0])
    stored.append(BATCHES[1])
    stored.compact(STATES[1])
    first, second = snapshot_paths(place)
    second.write_bytes(first.read_bytes())
    assert resumed(place.resume()) == (STATES[0], [BATCHES[1]])


def test_where_events_before_a_snapshot_are_gone_it_still_counts_and_without_it_the_place_is_named(stored, place):
    stored.append(BATCHES[0])
    stored.append(BATCHES[1])
    stored.close()
    successor = place.open()
    successor.compact(STATES[0])
    successor.append(BATCHES[2])
    message = place.lose_events(stored)
    assert resumed(place.resume()) == (STATES[0], [BATCHES[2]])
    with pytest.raises(JournalDamaged, match=message):
        list(place.read())
    snapshot_paths(place)[0].write_bytes(b"")
    with pytest.raises(JournalDamaged, match=message):
        place.resume()
    successor.close()


def test_a_snapshot_that_the_storage_refuses_stops_nothing(stored, place, monkeypatch):
    stored.append(BATCHES[0])

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Disk, "write", full)
    with pytest.raises(StorageError, match="No space left on device"):
        stored.compact(STATES[0])
    monkeypatch.undo()
    stored.append(BATCHES[1])
    assert resumed(place.resume()) == (None, BATCHES[:2])


def test_the_form_of_a_snapshot_and_of_a_pack_is_the_golden_one():
    golden = Path(__file__).parent / "golden"
    place = Place(3, "host.17.ab12cd34", 4711)
    state = journal_snapshots.decode(place, (golden / place.snapshot).read_bytes())
    assert state is not None, "a change of the form needs another FORMAT"
    assert json.loads(state) == {"format": 1, "events": 3}
    header = PackHeader(3, "host.17.ab12cd34", 0, 1)
    content = header.decode((golden / header.name).read_bytes())
    assert content is not None, "a change of the form needs another FORMAT"
    assert content.count(b'"started"') == 2
    assert PackHeader(3, "host.17.ab12cd34", 0, 2).decode((golden / header.name).read_bytes()) is None

"""One suite for the snapshots of every journal: each sentence of the port's docstrings is a test."""

import errno
import json
import os
from pathlib import Path

import pytest
from journal_places import BATCHES

from orchestrator.domain.errors import JournalDamaged, StorageError
from orchestrator.journal import snapshots as journal_snapshots
from orchestrator.journal.disk import Disk
from orchestrator.journal.packs import PackHeader
from orchestrator.journal.snapshots import Place

STATES = [b'{"seen":1}', b'{"seen":2}', b'{"seen":3}']


def resumed(given):
    state, batches = given
    return state, list(batches)


def snapshot_paths(place):
    return sorted(place.folder.glob("*.snapshot"))


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

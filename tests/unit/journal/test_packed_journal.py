"""What a journal in an object store is packed into: few objects, and nothing lost at any request of it."""

import orjson
import pytest
from failing_store import Died, Place, event, kill

from orchestrator.domain.errors import ExchangeRefused, JournalDamaged, StorageError
from orchestrator.journal.segments import listed, read_segments, resume_segments


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

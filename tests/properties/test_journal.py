"""The local journal under every torn tail and under flipped bits anywhere."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import JournalDamaged
from orchestrator.journal import open_journal, read_journal
from orchestrator.journal.records import HEAD, record_end

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
batches = st.lists(st.lists(st.dictionaries(st.text(), json_values, max_size=3), min_size=1, max_size=3), max_size=5)


def write(folder, content):
    journal = open_journal(folder)
    for batch in content:
        journal.append(batch, durable=False)
    journal.close()
    return journal.path


def record_starts(data):
    starts = [0]
    while (end := record_end(data, starts[-1])) is not None:
        starts.append(end)
    return starts


@settings(max_examples=50)
@given(st.lists(batches, min_size=1, max_size=3))
def test_what_was_appended_in_any_number_of_epochs_is_read(epochs):
    with tempfile.TemporaryDirectory() as folder:
        for content in epochs:
            write(Path(folder), content)
        assert list(read_journal(Path(folder))) == [batch for content in epochs for batch in content]


CONTENT = [
    [{"type": "started", "trial": n}, {"type": "reported", "metrics": {"loss": [n / 7, 1e-9]}}] for n in range(4)
]


@pytest.mark.parametrize("successor", [False, True], ids=["reader", "successor"])
def test_a_tail_torn_at_any_byte_is_cut_and_nothing_before_it_is_lost(tmp_path, successor):
    data = write(tmp_path / "whole", CONTENT).read_bytes()
    last = record_starts(data)[-2]
    for cut in range(last, len(data)):
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        torn = folder / "00000001-host.1.log"
        torn.write_bytes(data[:cut])
        assert list(read_journal(folder)) == CONTENT[:-1]
        if successor:
            write(folder, [[{"type": "went on"}]])
            assert torn.stat().st_size == last
            torn.write_bytes(data[:cut])  # as if its former writer had written once more
            assert list(read_journal(folder)) == [*CONTENT[:-1], [{"type": "went on"}]]


@pytest.mark.parametrize("garbage", [b"\x00" * 300, b"\xff" * 300, b"[{}]" * 80], ids=["zeros", "ones", "json"])
def test_garbage_behind_the_last_record_is_a_torn_tail(tmp_path, garbage):
    path = write(tmp_path, CONTENT)
    path.write_bytes(path.read_bytes() + garbage)
    assert list(read_journal(tmp_path)) == CONTENT
    write(tmp_path, [])
    assert list(read_journal(tmp_path)) == CONTENT


@settings(max_examples=300)
@given(st.data())
def test_a_flipped_bit_before_the_last_record_is_an_error_that_names_the_place(data):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write(folder, CONTENT)
        content = bytearray(path.read_bytes())
        starts = record_starts(bytes(content))
        place = data.draw(st.integers(0, starts[-2] - 1), "byte")
        content[place] ^= 1 << data.draw(st.integers(0, 7), "bit")
        path.write_bytes(content)
        number = max(n for n, start in enumerate(starts) if start <= place)
        with pytest.raises(JournalDamaged, match=f"{path.name}: record {number} at byte {starts[number]} "):
            list(read_journal(folder))
        with pytest.raises(JournalDamaged):
            open_journal(folder)


def test_a_flipped_bit_in_the_last_record_is_a_torn_tail(tmp_path):
    path = write(tmp_path, CONTENT)
    whole = path.read_bytes()
    for place in range(record_starts(whole)[-2], len(whole), HEAD.size // 2):
        content = bytearray(whole)
        content[place] ^= 4
        path.write_bytes(content)
        assert list(read_journal(tmp_path)) == CONTENT[:-1]

"""A log that is read again and again says what one that is read whole says, whatever happens to its files."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import JournalDamaged
from orchestrator.journal import GrowingLog, open_journal, read_journal
from orchestrator.journal.records import pack

STEPS = st.lists(st.sampled_from(["append", "append", "tear", "succeed", "late", "look", "look"]), max_size=25)


def event(number):
    return [{"type": "started", "trial": number}]


class Reader:
    """Reads with one growing log, and keeps what it said."""

    def __init__(self, folder):
        self._folder = folder
        self._log = GrowingLog(folder)
        self.batches = []
        self.whole = 0

    def look(self):
        is_anew, batches = self._log.read()
        self.whole += is_anew
        self.batches = batches if is_anew else self.batches + batches
        assert self.batches == list(read_journal(self._folder))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_what_came_since_adds_up_to_the_whole(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("journal")
    journal, reader = open_journal(folder), Reader(folder)
    for number, step in enumerate(steps):
        match step:
            case "append":
                journal.append(event(number), durable=False)
            case "tear":  # its writer dies in the middle of a record, and another one goes on
                record = pack(b'[{"type":"started","trial":999}]')
                with journal.path.open("ab") as file:
                    file.write(record[: len(record) // 2])
                reader.look()
                journal.close()
                journal = open_journal(folder)
            case "succeed":
                journal.close()
                journal = open_journal(folder)
            case "late":  # a former writer's record, which no seal leads to
                former = journal.path
                journal.close()
                journal = open_journal(folder)
                with former.open("ab") as file:
                    file.write(pack(b'[{"type":"started","trial":998}]'))
            case _:
                reader.look()
    reader.look()
    journal.close()


def test_a_file_that_grew_is_not_read_from_its_beginning(tmp_path):
    journal, reader = open_journal(tmp_path), Reader(tmp_path)
    for number in range(5):
        journal.append(event(number))
        reader.look()
    assert reader.whole == 1
    journal.close()


def test_a_record_that_no_seal_leads_to_is_not_read(tmp_path):
    former = open_journal(tmp_path)
    former.append(event(1))
    reader, path = Reader(tmp_path), former.path
    former.close()
    successor = open_journal(tmp_path)
    with path.open("ab") as file:
        file.write(pack(b'[{"type":"started","trial":2}]'))
    reader.look()
    assert reader.batches == [event(1)]
    successor.close()


def test_a_damaged_middle_is_named_as_in_a_log_that_is_read_whole(tmp_path):
    journal, reader = open_journal(tmp_path), GrowingLog(tmp_path)
    journal.append(event(1))
    reader.read()
    begun = journal.path.stat().st_size
    journal.append(event(2))
    journal.append(event(3))
    with journal.path.open("r+b") as file:
        file.seek(begun + 12)
        file.write(b"\x00")
    with pytest.raises(JournalDamaged, match=f"at byte {begun} does not check"):
        reader.read()
    journal.close()

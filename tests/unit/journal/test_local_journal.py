"""The local journal's own laws: epochs, the claim, the fence, the seal, a failing disk."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from orchestrator.domain.errors import ExchangeRefused, JournalDamaged, StorageError, StudyBusy
from orchestrator.journal import open_journal, read_journal, resume_journal
from orchestrator.journal.files import epoch_files, read_header
from orchestrator.journal.records import pack
from orchestrator.journal.snapshots import Place, encode

ROOT = Path(__file__).parents[3]


def event(number):
    return [{"type": "started", "trial": number}]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "digits" / "journal"


def test_each_writer_begins_an_epoch_with_a_file_of_its_own(folder):
    for epoch in (1, 2, 3):
        journal = open_journal(folder)
        assert (journal.epoch, journal.path.name) == (epoch, f"{epoch:08d}-{journal.writer}.log")
        journal.append(event(epoch))
        journal.close()
    assert [header["epoch"] for header in map(read_header, (f.path for f in epoch_files(folder)))] == [1, 2, 3]
    assert list(read_journal(folder)) == [event(1), event(2), event(3)]


def test_the_size_counts_all_epochs(folder):
    for _ in range(3):
        journal = open_journal(folder)
        journal.append(event(0))
        journal.close()
    assert journal.size_bytes == sum(file.path.stat().st_size for file in epoch_files(folder))


def test_a_killed_writer_leaves_no_claim(folder):
    code = (
        "import sys, time; from pathlib import Path; from orchestrator.journal import open_journal\n"
        "journal = open_journal(Path(sys.argv[1])); journal.append([{'type': 'started', 'trial': 7}], durable=False)\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"ready\n"
        with pytest.raises(StudyBusy, match=f"process {writer.pid} on host"):
            open_journal(folder)
        writer.send_signal(signal.SIGKILL)
    journal = open_journal(folder)
    assert list(journal.read()) == [event(7)]
    journal.close()


def test_a_lock_file_without_a_name_is_still_a_claim(folder):
    journal = open_journal(folder)
    (folder / "writer.lock").write_bytes(b"")
    with pytest.raises(StudyBusy, match="a process that has not yet written its name"):
        open_journal(folder)
    journal._claim.release()
    journal._unusable = "it was closed"


def test_a_former_writer_whose_lock_file_was_removed_is_fenced_and_its_late_record_never_happened(folder):
    former = open_journal(folder)
    former.append(event(0))
    (folder / "writer.lock").unlink()
    former.append(event(1))  # nobody came yet
    successor = open_journal(folder)
    with pytest.raises(ExchangeRefused, match=r"epoch 1 .* is over: a later writer has taken over"):
        former.append(event(2))
    with pytest.raises(StorageError, match="a later writer has taken over"):
        former.append(event(3))
    successor.append(event(4))
    assert list(read_journal(folder)) == [event(0), event(1), event(4)]
    former.close()
    successor.close()


def test_a_former_writer_sees_another_name_in_the_lock_file(folder, monkeypatch):
    monkeypatch.setattr("orchestrator.journal.claim.fcntl.flock", lambda *_: None)  # a file system that does not lock
    former, successor = open_journal(folder), open_journal(folder)
    with pytest.raises(ExchangeRefused):
        former.append(event(0))
    successor.append(event(1))
    former.close()
    successor.close()
    assert list(read_journal(folder)) == [event(1)]


def test_a_successor_brings_what_it_builds_upon_to_the_storage(folder, monkeypatch):
    journal = open_journal(folder)
    journal.append(event(0), durable=False)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    journal.close()
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.readlink(f"/proc/self/fd/{handle}")))
    successor = open_journal(folder)
    assert synced[:2] == [str(journal.path), str(successor.path)]
    assert str(folder) in synced
    successor.close()


def test_a_sealed_file_that_lost_its_end_is_damaged(folder):
    for number in (0, 1):
        journal = open_journal(folder)
        journal.append(event(number))
        journal.close()
    first = epoch_files(folder)[0].path
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(JournalDamaged, match=r"00000001-.*its last record at byte"):
        list(read_journal(folder))


def test_a_header_that_was_not_written_whole_is_no_epoch(folder):
    journal = open_journal(folder)
    journal.append(event(0))
    journal.close()
    torn = folder / "00000002-host.1.log"
    torn.write_bytes(journal.path.read_bytes()[:20])
    assert list(read_journal(folder)) == [event(0)]
    successor = open_journal(folder)
    successor.append(event(1))
    assert successor.epoch == 3
    assert list(read_journal(folder)) == [event(0), event(1)]
    successor.close()


def test_other_files_in_the_directory_are_left_alone(folder):
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    open_journal(folder).close()
    assert list(read_journal(folder)) == []
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_full_disk_is_an_error_and_half_a_record_is_taken_back_and_written_later(folder, monkeypatch):
    journal = open_journal(folder)
    journal.append(event(0))
    write, calls = os.write, []

    def fills_up(handle, data):
        calls.append(len(data))
        if len(calls) == 1:
            return write(handle, data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fills_up)
    with pytest.raises(StorageError, match=r"\.log cannot be written: No space left on device; check .*disk has room"):
        journal.append(event(1))
    monkeypatch.undo()
    journal.append(event(2))
    assert list(journal.read()) == [event(0), event(1), event(2)]
    journal.close()


def test_a_short_write_is_completed(folder, monkeypatch):
    journal = open_journal(folder)
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:7]))
    journal.append(event(0))
    monkeypatch.undo()
    assert list(journal.read()) == [event(0)]
    journal.close()


def test_after_a_failed_fsync_nothing_more_is_appended(folder, monkeypatch):
    journal = open_journal(folder)

    def fails(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(StorageError, match="Input/output error"):
        journal.append(event(0))
    monkeypatch.undo()
    with pytest.raises(StorageError, match=r"an earlier fsync failed .* open the journal again"):
        journal.append(event(1))
    journal.close()


def test_an_unwritable_storage_names_the_path_and_the_reason(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StorageError, match=r"file/journal cannot be written: Not a directory; .*or give another storage"
    ):
        open_journal(tmp_path / "file" / "journal")


def test_a_missing_journal_cannot_be_read(tmp_path):
    with pytest.raises(StorageError, match="nowhere cannot be read: No such file or directory"):
        read_journal(tmp_path / "nowhere")


@pytest.mark.slow
def test_an_append_that_is_not_durable_costs_microseconds(folder):
    journal = open_journal(folder)
    batch = [{"type": "reported", "trial": 5, "step": 3, "metrics": {"loss": 0.123}}]
    best = min(_seconds(journal, batch) for _ in range(5))
    assert best < 50e-6, "3.5 µs on an idle machine: 50 leaves room for a busy one"
    journal.close()


def _seconds(journal, batch, times=500):
    start = time.perf_counter()
    for _ in range(times):
        journal.append(batch, durable=False)
    return (time.perf_counter() - start) / times


class Died(BaseException):
    """The process ended here; nothing of it runs any more."""


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_compaction_that_dies_at_any_step_loses_nothing(tmp_path, monkeypatch, after):
    steps = [(os, "fsync"), (os, "write"), (Path, "replace"), (Path, "unlink"), (Path, "open")]
    for dies_at in range(1, 100):
        folder = tmp_path / str(dies_at)
        journal = open_journal(folder)
        for number, state in enumerate([b"[0]", b"[1]"]):
            journal.append(event(number))
            journal.compact(state)
        journal.append(event(2), durable=False)
        taken = []

        def dying(step, taken=taken, dies_at=dies_at):
            def do(*arguments, **options):
                if len(taken) >= dies_at:  # what runs on the way out does not run where a process ends
                    raise Died
                taken.append(step)
                if len(taken) == dies_at and not after:
                    raise Died
                result = step(*arguments, **options)
                if len(taken) == dies_at:
                    raise Died
                return result

            return do

        with monkeypatch.context() as patch:
            for owner, name in steps:
                patch.setattr(owner, name, dying(getattr(owner, name)))
            try:
                journal.compact(b"[2]")
                died = False
            except Died:
                died = True
        journal._claim.release()
        state, rest = resume_journal(folder)
        assert [*range(int(state[1:-1]) + 1), *[batch[0]["trial"] for batch in rest]] == [0, 1, 2]
        successor = open_journal(folder)
        successor.append(event(3))
        successor.compact(b"[3]")
        assert list(successor.read()) == [event(0), event(1), event(2), event(3)]
        assert resume_journal(folder)[0] == b"[3]"
        successor.close()
        if not died:
            assert dies_at > 5, "no test where nothing dies"
            return
    raise AssertionError("a compaction has no end")


def test_a_fenced_writer_may_not_compact_and_its_snapshot_counts_for_nothing(folder):
    former = open_journal(folder)
    former.append(event(0))
    (folder / "writer.lock").unlink()
    successor = open_journal(folder)
    with pytest.raises(ExchangeRefused):
        former.append(event(1))  # it is in the file, behind the seal
    with pytest.raises(StorageError, match="a later writer has taken over"):
        former.compact(b"[0,1]")
    late = Place(former.epoch, former.writer, former.path.stat().st_size)
    (folder / late.snapshot).write_bytes(encode(late, b"[0,1]"))  # it did all the same
    successor.append(event(2))
    state, rest = resume_journal(folder)
    assert (state, list(rest)) == (None, [event(0), event(2)])
    former.close()
    successor.close()


def test_a_snapshot_behind_the_end_of_its_file_counts_for_nothing(folder):
    """After a power cut: the snapshot is on the disk, the batches that it stands for are not."""
    journal = open_journal(folder)
    journal.append(event(0))
    size = journal.path.stat().st_size
    journal.append(event(1))
    journal.compact(b"[0,1]")
    journal.close()
    os.truncate(journal.path, size)
    successor = open_journal(folder)
    assert (lambda state, rest: (state, list(rest)))(*successor.resume()) == (None, [event(0)])
    successor.close()


def test_a_file_that_no_seal_leads_to_never_happened(folder):
    journal = open_journal(folder)
    journal.append(event(0))
    journal.close()
    header = {"format": 1, "epoch": 2, "writer": "late.1", "after": {"file": journal.path.name, "bytes": 1}}
    successor = open_journal(folder)
    successor.append(event(1))
    late = folder / "00000002-late.1.log"  # a writer that stood still between making its file and writing into it
    late.write_bytes(pack(orjson.dumps(header)) + pack(b'[{"type":"late"}]'))
    successor.close()
    successor.path.rename(folder / successor.path.name.replace("00000002", "00000003"))
    assert list(read_journal(folder)) == [event(0), event(1)]

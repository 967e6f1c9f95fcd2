"""Storage and journal on S3 (moto), with the errors, the slowness and the silence that such a server has."""

import pickle
import time

import pytest
from two_processes import stop_and_go_on

from orchestrator.domain.errors import ExchangeRefused, JournalDamaged, StorageError, StudyBusy
from orchestrator.journal import ObjectJournal, Published, Storage, open_journal, read_journal

pytestmark = pytest.mark.system


def event(number):
    return [{"type": "started", "trial": number}]


@pytest.fixture
def behind(proxy, bucket):
    """The storage behind the proxy, patient for two seconds."""
    return Storage.of(proxy.address(bucket), patience_seconds=2.0)


def test_files_come_and_go(storage):
    storage.write("a/b", b"1")
    storage.write("a/b", b"22")
    storage.write("a/empty", b"")
    storage.write("c", b"3")
    assert storage.sizes() == {"a/b": 2, "a/empty": 0, "c": 1}
    assert (storage.read("a/b"), storage.read("a/empty"), storage.find("gone")) == (b"22", b"", None)
    assert (storage.folders(), storage.names("a/")) == (["a"], ["a/b", "a/empty"])
    assert (storage.exists("a"), storage.exists("c"), storage.exists("b")) == (True, True, False)
    storage.delete("c")
    storage.delete("c")
    storage.delete_tree("a")
    storage.delete_tree("a")
    assert storage.names() == []
    assert not storage.exists("a")


def test_a_new_file_must_not_exist(storage):
    storage.write_new("a", b"1")
    with pytest.raises(StorageError, match="a cannot be written: it exists already"):
        storage.write_new("a", b"2")


def test_a_storage_travels(storage):
    storage.child("a").write("b", b"1")
    assert pickle.loads(pickle.dumps(storage.child("a"))).read("b") == b"1"


def test_a_directory_is_published_and_fetched_and_a_change_is_seen(storage, tmp_path):
    folder = tmp_path / "made"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "large.bin").write_bytes(bytes(range(256)) * 80_000)  # 20 MB: several parts
    (folder / "small.json").write_bytes(b"{}")
    published = storage.upload(folder, "checkpoints/00001/00003")
    assert storage.download("checkpoints/00001/00003", tmp_path / "copy") == published == Published.of(folder)
    assert Published.of(tmp_path / "copy") == published
    storage.write("checkpoints/00001/00003/small.json", b"[]")
    with pytest.raises(StorageError, match=r"small\.json is not what was published"):
        storage.download("checkpoints/00001/00003", tmp_path / "other")
    storage.delete("checkpoints/00001/00003/small.json")
    with pytest.raises(StorageError, match=r"small\.json cannot be read"):
        storage.download("checkpoints/00001/00003", tmp_path / "other")


def test_a_small_object_is_one_request(behind, proxy):
    behind.write("warm", b"")
    proxy.requests.clear()
    behind.write("a", b"x" * 10_000)
    assert [line.split()[0] for line in proxy.requests] == ["PUT"]


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError"), (503, "ServiceUnavailable")])
def test_passing_errors_are_tried_again(behind, proxy, status, code):
    behind.write("warm", b"1")
    proxy.status, proxy.code = status, code
    for verb in (lambda: behind.write("a", b"1"), lambda: behind.read("warm"), lambda: behind.names()):
        proxy.refuse = 2
        verb()
    assert behind.read("a") == b"1"


def test_an_error_that_stays_is_said_with_its_reason_within_the_patience(behind, proxy):
    proxy.refuse = 1000
    started = time.monotonic()
    with pytest.raises(StorageError, match=r"runs/a cannot be written: SLOW_DOWN in PutObject: by the test; look at"):
        behind.write("a", b"1")
    assert time.monotonic() - started < 6
    assert 3 <= len(proxy.requests) <= 10


def test_an_error_that_cannot_pass_is_not_tried_again(behind, proxy):
    proxy.refuse, proxy.status, proxy.code = 1000, 403, "AccessDenied"
    with pytest.raises(StorageError, match="ACCESS_DENIED in PutObject: by the test; check AWS_ACCESS_KEY_ID"):
        behind.write("a", b"1")
    assert len(proxy.requests) == 1
    with pytest.raises(StorageError, match="ACCESS_DENIED"):
        behind.read("a")


def test_a_missing_bucket_is_named_at_once(bucket):
    nowhere = Storage.of(f"s3://{bucket}-not/runs")
    for verb in (lambda: nowhere.write("a", b""), nowhere.names, lambda: open_journal(nowhere.child("journal"))):
        with pytest.raises(StorageError, match=f"s3://{bucket}-not/runs.* NO_SUCH_BUCKET .*; create the bucket, or"):
            verb()


def test_missing_keys_are_named(bucket, storage, monkeypatch, tmp_path):
    storage.write("a", b"")  # moto lets anybody make an object, and nobody replace one
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(StorageError, match=r"cannot be written: ACCESS_DENIED in PutObject: .*AWS_SECRET_ACCESS_KEY"):
        Storage.of(f"s3://{bucket}/runs").write("a", b"")


def test_an_endpoint_that_does_not_listen_is_named():
    nowhere = Storage.of("s3://bucket/runs?scheme=http&endpoint_override=127.0.0.1:1", patience_seconds=0.5)
    with pytest.raises(StorageError, match=r"NETWORK_CONNECTION in PutObject: .*check the endpoint"):
        nowhere.write("a", b"")


def test_a_server_that_hangs_is_noticed_and_tried_again(behind, proxy, monkeypatch):
    monkeypatch.setattr("orchestrator.journal.object_store.SILENT_SECONDS", 1.0)
    behind.write("warm", b"1")
    proxy.hang = 1
    assert behind.patient(30.0).read("warm") == b"1"


def test_a_connection_that_is_cut_is_tried_again(behind, proxy):
    behind.write("warm", b"1")
    proxy.is_cut = True
    with pytest.raises(StorageError, match="NETWORK_CONNECTION"):
        behind.write("a", b"1")
    proxy.is_cut = False
    behind.write("a", b"1")
    assert behind.read("a") == b"1"


def test_a_journal_is_written_read_and_gone_on_with(storage):
    place = storage.child("digits").child("journal")
    for number in range(3):
        journal = open_journal(place)
        journal.append(event(3 * number), durable=False)
        journal.append(event(3 * number + 1))
        journal.append(event(3 * number + 2), durable=False)
        assert list(journal.read()) == [event(each) for each in range(3 * number + 3)]
        journal.close()
    assert list(read_journal(place)) == list(read_journal(place.uri)) == [event(each) for each in range(9)]
    assert journal.epoch == 3
    assert [name for name in place.names() if name.startswith("claims/")] == [f"claims/00000003-{journal.writer}"]


def test_a_durable_append_is_one_request(behind, proxy, tmp_path):
    journal = ObjectJournal(behind, spool=tmp_path)
    proxy.requests.clear()
    for number in range(20):
        journal.append(event(number), durable=number % 4 == 3)
    assert [line.split()[0] for line in proxy.requests] == ["PUT"] * 5
    journal.close()


def test_there_is_one_writer_and_it_is_named(storage, tmp_path):
    journal = ObjectJournal(storage, spool=tmp_path / "a", ttl_seconds=2.0)
    journal.keep_renewed()
    with pytest.raises(StudyBusy, match=r"written by process \d+ on host"):
        ObjectJournal(storage, spool=tmp_path / "b", ttl_seconds=2.0)
    journal.append(event(0))
    journal.close()


def test_a_missing_segment_is_named(storage, tmp_path):
    journal = ObjectJournal(storage, spool=tmp_path)
    for number in range(3):
        journal.append(event(number))
    journal.close()
    name = f"{journal.epoch:08d}-{journal.writer}-00000002.seg"
    storage.delete(name)
    with pytest.raises(JournalDamaged, match=f"{name} is missing"):
        list(read_journal(storage))


def test_a_writer_that_is_cut_off_is_succeeded_and_no_longer_believed(storage, behind, proxy, tmp_path):
    former = ObjectJournal(behind.patient(0.5), spool=tmp_path / "a", ttl_seconds=2.0)
    former.append(event(0))
    proxy.is_cut = True
    with pytest.raises(StorageError, match="NETWORK_CONNECTION"):
        former.append(event(1))
    successor = ObjectJournal(storage, spool=tmp_path / "b", ttl_seconds=2.0)
    successor.append(event(2))
    proxy.is_cut = False
    with pytest.raises(ExchangeRefused, match="has taken over"):
        former.append(event(3))
    former.close()
    successor.close()
    assert list(read_journal(storage)) == [event(0), event(2)]


def test_a_slow_store_slows_the_writer_down_and_breaks_nothing(behind, proxy, tmp_path):
    journal = ObjectJournal(behind, spool=tmp_path, ttl_seconds=1.0)
    proxy.delay_seconds = 0.8  # more than half the time to live: every append looks for a successor
    journal.append(event(0))
    proxy.delay_seconds = 0.0
    journal.append(event(1))
    assert list(journal.read()) == [event(0), event(1)]
    journal.close()


def test_of_two_processes_one_of_which_was_stopped_only_one_is_believed(storage, tmp_path):
    stop_and_go_on(storage.uri, tmp_path)

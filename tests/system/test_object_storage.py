"""Storage and journal on S3 (moto), with the errors, the slowness and the silence that such a server has."""

import pickle
import shutil
import time

import numpy as np
import pytest
from two_processes import stop_and_go_on

from deploy.bundle import Kind, Lineage, Schema, constant_model, write_bundle
from deploy.copies import open_bundle
from orchestrator.domain.errors import BundleError, ExchangeRefused, JournalDamaged, StorageError, StudyBusy
from orchestrator.journal import ObjectJournal, Published, Storage, open_journal, read_journal, resume_journal
from orchestrator.tuning.outage import is_outage
from orchestrator.tuning.uploaded import UploadedCheckpoints

pytestmark = pytest.mark.system


def event(number):
    return [{"type": "started", "trial": number}]


def writes(content="state"):
    def write(directory):
        (directory / "weights").write_text(content)
        return True

    return write


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


def test_a_host_whose_clock_is_wrong_is_told_so(behind, proxy):
    proxy.refuse, proxy.status, proxy.code = 1000, 403, "RequestTimeTooSkewed"
    with pytest.raises(StorageError, match="set this host's clock"):
        behind.write("a", b"1")


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


@pytest.mark.parametrize("requests", [1, 3])
def test_a_connection_that_is_reset_is_tried_again(behind, proxy, requests):
    behind.write("warm", b"1")
    for verb in (lambda: behind.write("a", b"1"), lambda: behind.read("warm"), lambda: behind.names()):
        proxy.reset = requests
        verb()
        assert proxy.reset == 0
    assert behind.read("a") == b"1"


def test_checkpoints_come_and_go_through_errors(behind, proxy):
    checkpoints = UploadedCheckpoints(behind.patient(20.0))
    proxy.break_every = 2
    refs = [checkpoints.publish(0, step, writes(f"step {step}")) for step in range(1, 4)]
    assert checkpoints.begin(1, 1, writes("beside")) is None
    elsewhere = UploadedCheckpoints(behind.patient(20.0))
    assert [(elsewhere.fetch(ref) / "weights").read_text() for ref in refs] == ["step 1", "step 2", "step 3"]
    proxy.break_every = 0
    while (ref := checkpoints.finished(1)) is None:
        time.sleep(0.01)
    assert (elsewhere.fetch(ref) / "weights").read_text() == "beside"
    assert proxy.broken > 6


def test_a_store_that_is_away_is_no_checkpoints_fault(behind, proxy):
    checkpoints = UploadedCheckpoints(behind.patient(0.5))
    ref = checkpoints.publish(0, 1, writes("kept"))
    proxy.is_cut = True
    for verb in (lambda: checkpoints.publish(0, 2, writes()), lambda: UploadedCheckpoints(behind).fetch(ref)):
        with pytest.raises(StorageError, match="NETWORK_CONNECTION") as caught:
            verb()
        assert is_outage(caught.value)
    proxy.is_cut = False
    assert (UploadedCheckpoints(behind).fetch(ref) / "weights").read_text() == "kept"


def test_a_bundle_is_read_through_errors_and_a_store_that_is_away_is_not_its_fault(
    behind, proxy, bucket, tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = write_bundle(
        tmp_path / "made",
        onnx_model=constant_model(2, (0.25, 0.75)),
        schema=Schema(columns=("width", "height"), kind=Kind.CLASSIFICATION, labels=("cat", "dog")),
        lineage=Lineage("digits", 3, 27, {"lr": 0.1}, 0.97, "val_accuracy", "abc", 1, {"torch": "2"}, "2026"),
        sample_rows=np.ones((4, 2), dtype=np.float32),
    )
    behind.patient(20.0).upload(place, "bundles/1")
    address = behind.child("bundles").child("1").uri
    proxy.is_cut = True
    with monkeypatch.context() as patch:
        patch.setitem(Storage.of.__kwdefaults__, "patience_seconds", 0.5)
        with pytest.raises(StorageError, match="NETWORK_CONNECTION"):
            open_bundle(address)
    proxy.is_cut = False
    proxy.break_every = 2
    assert open_bundle(address).lineage.trial == 3
    proxy.break_every = 0
    shutil.rmtree(tmp_path / "cache")
    behind.write("bundles/1/model.onnx", b"another model")
    with pytest.raises(BundleError, match=r"was altered where it lies: .*model\.onnx is not what was published"):
        open_bundle(address)


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


def test_segments_are_packed_and_snapshots_published_and_everything_stays_readable(storage, tmp_path, monkeypatch):
    monkeypatch.setattr("orchestrator.journal.objects.PACKED_AT", 20)
    place = storage.child("journal")
    journal = ObjectJournal(place, spool=tmp_path / "spool")
    for number in range(50):
        journal.append(event(number))
        if number in (10, 20, 30):
            journal.compact(f"[{number}]".encode())
    names = [name for name in place.names() if "/" not in name]
    assert [sum(name.endswith(kind) for name in names) for kind in (".pack", ".seg", ".snapshot")] == [2, 11, 2]
    assert list(read_journal(place)) == list(journal.read()) == [event(number) for number in range(50)]
    state, rest = resume_journal(place)
    assert (state, list(rest)) == (b"[30]", [event(number) for number in range(31, 50)])
    journal.close()
    successor = ObjectJournal(place, spool=tmp_path / "spool")
    assert list(successor.resume()[1]) == [event(number) for number in range(31, 50)]
    successor.close()

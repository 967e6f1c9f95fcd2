"""One suite for every store of checkpoints: each sentence of the port's docstrings is a test."""

import time

import pytest

from orchestrator.domain.errors import StorageError
from orchestrator.domain.trials import CheckpointRef
from orchestrator.journal import Published, Storage, cache_directory
from orchestrator.tuning.uploaded import UploadedCheckpoints
from orchestrator.tuning.workshop import checkpoints_on


@pytest.fixture(params=["disk", "objects"])
def place(request, tmp_path, object_store):
    return Storage.of(tmp_path if request.param == "disk" else object_store).child("checkpoints")


@pytest.fixture
def store(place):
    return checkpoints_on(place)


@pytest.fixture
def uploaded(object_store):
    return UploadedCheckpoints(Storage.of(object_store))


def writes(content="state"):
    def write(directory):
        (directory / "deep").mkdir()
        (directory / "weights").write_text(content)
        (directory / "deep" / "more").write_text("more")
        return True

    return write


def eventually(store, trial):
    deadline = time.monotonic() + 20
    while (ref := store.finished(trial)) is None:
        assert time.monotonic() < deadline, "the upload does not end"
        time.sleep(0.01)
    return ref


def test_what_was_published_is_fetched_by_any_process(store, place):
    ref = store.publish(4, 9, writes())
    assert (ref.step, ref.size_bytes) == (9, 9)
    assert place.name_of(ref.uri).startswith("00004/00009")
    elsewhere = checkpoints_on(place)
    copy = elsewhere.fetch(ref)
    assert (copy / "weights").read_text() == "state"
    assert Published.of(copy).sha256 == ref.sha256


def test_one_that_an_earlier_version_uploaded_file_by_file_is_fetched(uploaded, object_store, tmp_path):
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "weights").write_text("state")
    storage = Storage.of(object_store)
    there = storage.upload(tmp_path / "made", "00004/00009-ab")
    ref = CheckpointRef(9, storage.child("00004/00009-ab").uri, there.sha256, there.size_bytes)
    assert (uploaded.fetch(ref) / "weights").read_text() == "state"


def test_a_checkpoint_in_an_object_store_is_one_object(uploaded, object_store):
    ref = uploaded.publish(4, 9, writes())
    storage = Storage.of(object_store)
    assert storage.names() == [f"{storage.name_of(ref.uri)}/{Published.PARCEL}"]


def test_an_error_of_the_one_who_writes_is_his_own(store, place):
    def write(directory):
        (directory / "weights").write_text("state")
        raise FileNotFoundError(2, "no such table")

    with pytest.raises(FileNotFoundError, match="no such table"):
        store.publish(0, 1, write)
    assert place.names() == []


def test_nothing_to_save_is_no_checkpoint(store, place):
    assert store.publish(0, 1, lambda directory: False) is None
    assert store.begin(0, 1, lambda directory: False) is None
    assert store.finished(0) is None
    assert place.names() == []


def test_what_the_users_write_raises_is_raised_and_leaves_nothing(store, place):
    def write(directory):
        writes()(directory)
        raise ValueError("the user's own")

    for save in (store.publish, store.begin):
        with pytest.raises(ValueError, match="the user's own"):
            save(0, 1, write)
    assert place.names() == []


def test_what_was_begun_is_told_once_when_it_is_published(store):
    ref = store.begin(0, 3, writes()) or eventually(store, 0)
    assert (ref.step, (store.fetch(ref) / "weights").read_text()) == (3, "state")
    assert store.finished(0) is None


def test_what_was_begun_and_forgotten_is_not_told(store):
    store.begin(0, 3, writes())
    store.forget(0)
    assert store.finished(0) is None


@pytest.mark.parametrize("change", ["content", "less"])
def test_a_checkpoint_that_was_changed_is_noticed(store, place, change):
    ref = store.publish(0, 1, writes())
    name = max(place.names(place.name_of(ref.uri)))  # its weights, or all of it
    if change == "content":
        place.write(name, b"stale")
    else:
        place.delete(name)
    with pytest.raises(StorageError, match=r"not what was published|cannot be read|is gone"):
        store.fetch(ref)


def test_a_checkpoint_that_is_gone_says_what_that_means(store, place):
    ref = store.publish(0, 1, writes())
    place.delete_tree("00000")
    with pytest.raises(StorageError, match="is gone; the trial can only start again from zero"):
        store.fetch(ref)


# --- in an object store --------------------------------------------------------------------------------------------


def test_two_workers_that_upload_one_step_never_write_into_one_another(object_store):
    ours, theirs = (UploadedCheckpoints(Storage.of(object_store)) for _ in range(2))
    first, second = ours.publish(0, 1, writes("ours")), theirs.publish(0, 1, writes("theirs"))
    assert first.uri != second.uri
    assert (ours.fetch(second) / "weights").read_text() == "theirs"
    assert (theirs.fetch(first) / "weights").read_text() == "ours"


def test_training_goes_on_while_a_checkpoint_is_uploaded(uploaded, monkeypatch):
    send = Storage.send

    def slow(storage, directory, name):
        time.sleep(0.3)
        return send(storage, directory, name)

    monkeypatch.setattr(Storage, "send", slow)
    began = time.monotonic()
    assert uploaded.begin(0, 3, writes("first")) is None
    assert uploaded.begin(0, 4, writes("second")) is None, "one at a time for a trial"
    assert uploaded.finished(0) is None
    assert time.monotonic() - began < 0.3
    assert eventually(uploaded, 0).step == 3
    assert uploaded.publish(0, 5, writes()).step == 5, "at a milestone the upload is waited for"


def test_an_upload_that_fails_beside_the_training_is_no_checkpoint(uploaded, monkeypatch):
    def refuse(storage, directory, name):
        raise StorageError("no answer")

    monkeypatch.setattr(Storage, "send", refuse)
    uploaded.begin(0, 3, writes())
    uploaded._uploads[0].exception()
    assert uploaded.finished(0) is None
    with pytest.raises(StorageError, match="no answer"):
        uploaded.publish(0, 4, writes())


def test_a_copy_that_was_changed_is_fetched_again(uploaded):
    ref = uploaded.publish(0, 1, writes())
    (uploaded.fetch(ref) / "weights").write_text("the user's own")
    assert (uploaded.fetch(ref) / "weights").read_text() == "state"


def test_copies_are_bounded_and_go_with_their_process(uploaded, monkeypatch):
    monkeypatch.setattr("orchestrator.tuning.uploaded.KEPT", 2)
    copies = [uploaded.fetch(uploaded.publish(trial, 1, writes())) for trial in range(3)]
    assert [copy.exists() for copy in copies] == [False, True, True]
    dead = cache_directory() / "scratch" / "checkpoints.999999999.abc"
    dead.mkdir()
    other = UploadedCheckpoints(uploaded._storage)
    other.publish(9, 1, writes())
    assert not dead.exists()
    assert copies[2].exists()
    del other, uploaded


def test_a_checkpoint_of_another_storage_is_refused(uploaded):
    with pytest.raises(StorageError, match="does not lie on mock:///runs, where the study is kept"):
        uploaded.fetch(CheckpointRef(1, "s3://other/place/00000/00001", "", 0))

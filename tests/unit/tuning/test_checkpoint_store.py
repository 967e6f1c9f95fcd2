"""Checkpoints: written beside, hashed, published last."""

import os

import pytest

from orchestrator.domain.errors import StorageError
from orchestrator.tuning.checkpoints import CheckpointStore


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints")


def writes(content="state", name="weights"):
    def write(directory):
        (directory / "deep").mkdir()
        (directory / name).write_text(content)
        (directory / "deep" / "more").write_text("more")
        return True

    return write


def leftovers(store):
    return [path.name for path in store.directory.rglob(".*")]


def test_what_was_published_is_fetched(store):
    ref = store.publish(4, 9, writes())
    assert (ref.step, ref.size_bytes) == (9, 9)
    assert ref.uri == str(store.directory / "00004" / "00009")
    assert (store.fetch(ref) / "weights").read_text() == "state"


def test_it_appears_whole_or_not_at_all(store):
    def write(directory):
        writes()(directory)
        assert not (store.directory / "00000" / "00001").exists()
        return True

    store.publish(0, 1, write)
    assert (store.directory / "00000" / "00001" / "deep" / "more").exists()
    assert not leftovers(store)


def test_a_write_that_fails_leaves_nothing(store):
    def write(directory):
        writes()(directory)
        raise ValueError("the user's own")

    with pytest.raises(ValueError, match="the user's own"):
        store.publish(0, 1, write)
    assert not leftovers(store)
    assert store.publish(0, 1, writes()).step == 1


def test_torn_leftovers_of_a_crash_are_in_nobodys_way(store):
    torn = store.directory / "00000" / ".00001-deadbeef"
    torn.mkdir(parents=True)
    (torn / "weights").write_text("half")
    ref = store.publish(0, 1, writes())
    assert (store.fetch(ref) / "weights").read_text() == "state"


def test_nothing_to_save_is_no_checkpoint(store):
    assert store.publish(0, 1, lambda directory: False) is None
    assert not leftovers(store)
    assert not (store.directory / "00000" / "00001").exists()


def test_the_same_step_again_is_the_checkpoint_that_is_there(store):
    first = store.publish(0, 1, writes("first"))
    assert store.publish(0, 1, writes("second")) == first
    assert (store.fetch(first) / "weights").read_text() == "first"


def test_two_workers_that_publish_one_step_both_get_what_is_there(store):
    def write(directory):
        store.publish(0, 1, writes("theirs"))
        return writes("ours")(directory)

    ref = store.publish(0, 1, write)
    assert (store.fetch(ref) / "weights").read_text() == "theirs"
    assert not leftovers(store)


@pytest.mark.parametrize("change", ["content", "name", "more", "less"])
def test_a_checkpoint_that_was_changed_is_noticed(store, change):
    ref = store.publish(0, 1, writes())
    directory = store.directory / "00000" / "00001"
    match change:
        case "content":
            (directory / "weights").write_text("stale")
        case "name":
            (directory / "weights").rename(directory / "other")
        case "more":
            (directory / "extra").write_text("")
        case "less":
            (directory / "weights").unlink()
    with pytest.raises(StorageError, match="is not what was published: its hash differs"):
        store.fetch(ref)


def test_a_checkpoint_that_is_gone_says_what_that_means(store):
    ref = store.publish(0, 1, writes())
    (store.directory / "00000").rename(store.directory / "moved")
    with pytest.raises(StorageError, match="is gone; the trial can only start again from zero"):
        store.fetch(ref)


def test_a_storage_that_cannot_be_written_is_an_error_that_says_so(tmp_path):
    (tmp_path / "checkpoints").write_text("a file")
    with pytest.raises(StorageError, match=r"checkpoint of trial 0 cannot be written to .*; free some space"):
        CheckpointStore(tmp_path / "checkpoints").publish(0, 1, writes())


def test_a_full_disk_is_an_error_that_says_so(store, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device; free some space or choose another storage"):
        store.publish(0, 1, writes())
    assert not leftovers(store)

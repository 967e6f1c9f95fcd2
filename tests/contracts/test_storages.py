"""One suite for every storage: each sentence of its docstrings is a test."""

import pickle
from pathlib import Path

import pytest

from orchestrator.domain.errors import NotAsPublished, StorageError
from orchestrator.journal import Published, Storage


@pytest.fixture(params=["disk", "objects"])
def storage(request, tmp_path):
    """A directory; and pyarrow's file system in memory, through what object stores go through."""
    return Storage.of(tmp_path / "runs" if request.param == "disk" else "mock:///runs")


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "made"
    (made / "weights").mkdir(parents=True)
    (made / "weights" / "a.npy").write_bytes(b"a" * 100)
    (made / "b.json").write_bytes(b"{}")
    (made / "empty").write_bytes(b"")
    return made


def test_what_is_written_is_read(storage):
    storage.write("a/b.bin", b"\x00\xff" * 10)
    assert storage.read("a/b.bin") == storage.find("a/b.bin") == b"\x00\xff" * 10
    assert b"".join(storage.chunks("a/b.bin")) == b"\x00\xff" * 10


def test_it_knows_the_names_of_its_addresses(storage):
    assert storage.name_of(storage.child("a").child("b").uri) == "a/b"
    assert storage.child("a").name_of(storage.child("ab").uri) is None
    assert storage.name_of(storage.uri) is None
    assert Storage.of("s3://bucket/runs?region=x").name_of("s3://bucket/runs/a/b?region=y") == "a/b"


def test_writing_again_replaces(storage):
    storage.write("a", b"longer")
    storage.write("a", b"new")
    assert storage.read("a") == b"new"


def test_an_empty_file_is_a_file(storage):
    storage.write("a", b"")
    assert storage.exists("a")
    assert storage.read("a") == b""


def test_a_new_file_must_not_exist(storage):
    storage.write_new("a", b"first")
    with pytest.raises(StorageError, match=r"/runs/a cannot be written: .*exists"):
        storage.write_new("a", b"second")
    assert storage.read("a") == b"first"
    assert storage.names() == ["a"], "nothing is left beside"


def test_a_missing_file_is_an_error_or_none(storage):
    assert storage.find("gone") is None
    with pytest.raises(StorageError, match=r"/runs/gone cannot be read: .*; check the path"):
        storage.read("gone")


def test_names_are_sorted_and_below_the_prefix(storage):
    for name in ("b/2", "a", "b/1", "bc", "b/c/3"):
        storage.write(name, name.encode())
    assert storage.names() == ["a", "b/1", "b/2", "b/c/3", "bc"]
    assert storage.names("b") == ["b/1", "b/2", "b/c/3", "bc"]
    assert storage.names("b/") == ["b/1", "b/2", "b/c/3"]
    assert storage.sizes("b/") == {"b/1": 3, "b/2": 3, "b/c/3": 5}
    assert storage.names("nothing/") == []


def test_folders_are_those_directly_below(storage):
    for name in ("b/2", "a", "c/d/3"):
        storage.write(name, b"")
    assert storage.folders() == ["b", "c"]
    assert storage.folders("c") == ["d"]
    assert storage.folders("nothing") == []


def test_many_are_read_in_the_order_of_their_names(storage):
    names = [f"{number:03d}" for number in range(150)]
    for name in names:
        storage.write(name, name.encode())
    assert list(storage.read_many(names)) == [name.encode() for name in names]
    assert list(storage.read_many([])) == []


def test_a_folder_exists_where_it_holds_something(storage):
    assert not storage.exists("a")
    storage.write("a/b/c", b"")
    assert storage.exists("a")
    assert storage.exists("a/b/c")
    storage.delete("a/b/c")
    assert not storage.exists("a/b/c")


def test_many_are_deleted_and_missing_ones_are_no_error(storage):
    for name in ("a", "b/c", "d"):
        storage.write(name, b"1")
    storage.delete_many(["a", "gone", "b/c"])
    storage.delete_many([])
    assert storage.names() == ["d"]


def test_deleting_what_is_not_there_is_no_error(storage):
    storage.delete("a")
    storage.delete_tree("b")


def test_a_tree_goes_with_everything_in_it(storage):
    for name in ("a/1", "a/b/2", "c"):
        storage.write(name, b"")
    storage.delete_tree("a")
    assert storage.names() == ["c"]


def test_a_child_is_a_storage_of_its_own(storage):
    child = storage.child("digits").child("journal")
    child.write("x", b"1")
    assert storage.names() == ["digits/journal/x"]
    assert child.names() == ["x"]
    assert child.uri == f"{storage.uri}/digits/journal"


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../up", "a/../../up", "a?b"])
def test_a_name_stays_below_its_storage(storage, name):
    for verb in (storage.read, storage.exists, storage.delete, storage.child):
        with pytest.raises(StorageError, match="cannot name a file on a storage"):
            verb(name)


def test_a_storage_is_a_value_and_travels(tmp_path):
    storage = Storage.of(tmp_path / "runs")
    storage.write("a", b"1")
    copy = pickle.loads(pickle.dumps(storage.child("b")))
    assert copy == storage.child("b")
    assert hash(copy) == hash(storage.child("b"))
    assert pickle.loads(pickle.dumps(storage)).read("a") == b"1"
    assert storage.patient(1.0) == storage


def test_a_directory_is_published_and_fetched(storage, folder, tmp_path):
    published = storage.upload(folder, "checkpoints/1")
    assert published.size_bytes == 102
    assert set(published.files) == {"weights/a.npy", "b.json", "empty"}
    assert storage.published("checkpoints/1") == published == Published.of(folder)
    assert storage.download("checkpoints/1", tmp_path / "there" / "copy") == published
    assert Published.of(tmp_path / "there" / "copy") == published
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["copy"]


def test_the_manifest_is_written_last(storage, folder, monkeypatch):
    written = []
    write_from = Storage.write_from
    monkeypatch.setattr(
        Storage, "write_from", lambda self, name, source: written.append(name) or write_from(self, name, source)
    )
    storage.upload(folder, "c")
    assert written[-1] == f"c/{Published.MANIFEST}"
    assert len(written) == 4


def test_what_was_not_published_cannot_be_fetched(storage, folder, tmp_path):
    storage.upload(folder, "c")
    storage.delete(f"c/{Published.MANIFEST}")
    assert storage.published("c") is None
    with pytest.raises(StorageError, match="/c was not published, or is gone"):
        storage.download("c", tmp_path / "copy")


def test_what_is_published_is_never_changed(storage, folder):
    first = storage.upload(folder, "c")
    (folder / "b.json").write_bytes(b"[]")
    assert storage.upload(folder, "c") == first
    assert storage.read("c/b.json") == b"{}"


def test_a_changed_file_is_named_and_nothing_of_it_arrives(storage, folder, tmp_path):
    storage.upload(folder, "c")
    storage.write("c/weights/a.npy", b"b" * 100)
    with pytest.raises(StorageError, match=r"c/weights/a\.npy is not what was published: its hash differs"):
        storage.download("c", tmp_path / "copy")
    assert list(tmp_path.glob("*copy*")) == []


def test_a_missing_file_is_named(storage, folder, tmp_path):
    storage.upload(folder, "c")
    storage.delete("c/b.json")
    with pytest.raises(StorageError, match=r"c/b\.json cannot be read"):
        storage.download("c", tmp_path / "copy")


@pytest.mark.parametrize(
    "change",
    [(b'"b.json"', b'"c.json"'), (b"{", b"("), (b'"b.json"', b'"../b.json"'), (b'"format": 1', b'"format": 2')],
)
def test_an_edited_manifest_is_seen(storage, folder, tmp_path, change):
    storage.upload(folder, "c")
    manifest = storage.read(f"c/{Published.MANIFEST}")
    assert change[0] in manifest
    storage.write(f"c/{Published.MANIFEST}", manifest.replace(*change))
    with pytest.raises(StorageError, match="c/"):
        storage.download("c", tmp_path / "copy")
    assert not (tmp_path / "b.json").exists()


def test_a_published_folder_is_taken_back_manifest_first(storage, folder, monkeypatch):
    storage.upload(folder, "c")
    deleted = []
    delete = Storage.delete
    monkeypatch.setattr(Storage, "delete", lambda self, name: deleted.append(name) or delete(self, name))
    storage.delete_tree("c")
    assert deleted == [f"c/{Published.MANIFEST}"]
    assert storage.names() == []


def test_the_hash_is_that_of_equal_directories_anywhere(folder, tmp_path):
    copy = tmp_path / "elsewhere"
    Storage.of(tmp_path / "runs").upload(folder, "c")
    Storage.of(tmp_path / "runs").download("c", copy)
    assert Published.of(copy).sha256 == Published.of(folder).sha256
    (copy / "empty").rename(copy / "Empty")
    assert Published.of(copy).sha256 != Published.of(folder).sha256


@pytest.mark.parametrize("name", [Published.MANIFEST, Published.PARCEL])
def test_a_directory_cannot_hold_a_file_of_the_manifests_name(storage, folder, name):
    (folder / name).write_text("mine")
    with pytest.raises(StorageError, match="has the name of a published folder's manifest; rename it"):
        storage.upload(folder, "c")


def test_a_parcel_is_one_file_and_arrives_as_it_was(storage, folder, tmp_path):
    sent = storage.send(folder, "checkpoints/1")
    assert storage.names("checkpoints/1") == [f"checkpoints/1/{Published.PARCEL}"]
    assert storage.receive("checkpoints/1", tmp_path / "there" / "copy") == sent == Published.of(folder)
    assert Published.of(tmp_path / "there" / "copy") == sent
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["copy"]


def test_a_parcel_of_nothing_arrives(storage, tmp_path):
    (tmp_path / "nothing").mkdir()
    sent = storage.send(tmp_path / "nothing", "c")
    assert storage.receive("c", tmp_path / "copy") == sent
    assert list((tmp_path / "copy").iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda whole: whole[:-1], "its end is missing"),
        (lambda whole: whole[:5], "its end is missing"),
        (lambda whole: b"", "its end is missing"),
        (lambda whole: whole + b"x", "there is something behind its end"),
        (lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]), "its hash differs"),
        (lambda whole: b"\xff" * 8 + whole[8:], "is no parcel: its manifest would have"),
        (lambda whole: whole.replace(b'"b.json"', b'"c.json"'), "its hash differs"),
        (lambda whole: whole.replace(b"{", b"(", 1), "is no manifest of a published folder"),
        (lambda whole: whole.replace(b'"format": 1', b'"format": 2'), "is of a newer version of this program"),
        (lambda whole: whole.replace(b'"b.json"', b'"../b.s"'), "was edited"),
    ],
)
def test_a_parcel_that_was_changed_is_seen_and_nothing_of_it_arrives(storage, folder, tmp_path, change, message):
    storage.send(folder, "c")
    name = f"c/{Published.PARCEL}"
    before = storage.read(name)
    storage.write(name, change(before))
    assert storage.read(name) != before
    with pytest.raises(NotAsPublished, match=message):
        storage.receive("c", tmp_path / "copy")
    assert list(tmp_path.glob("*copy*")) == []


def test_a_parcel_that_is_not_there_is_said(storage, tmp_path):
    with pytest.raises(NotAsPublished, match=Published.PARCEL):
        storage.receive("c", tmp_path / "copy")


def test_an_existing_directory_is_not_written_over(storage, folder, tmp_path):
    storage.upload(folder, "c")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "mine").write_text("")
    with pytest.raises(StorageError, match=r"cannot be brought to .*copy: Directory not empty; give a new directory"):
        storage.download("c", tmp_path / "copy")
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("given", "uri"),
    [
        ("/runs/", "/runs"),
        ("file:///runs/my%20studies", "/runs/my studies"),
        ("s3://bucket/runs/", "s3://bucket/runs"),
        ("s3://bucket?region=eu-west-1", "s3://bucket?region=eu-west-1"),
    ],
)
def test_addresses_have_one_form(given, uri):
    assert Storage.of(given).uri == uri


def test_options_stay_behind_the_path():
    assert Storage.of("s3://b/runs?scheme=http").child("digits").uri == "s3://b/runs/digits?scheme=http"


def test_a_path_is_made_absolute():
    assert Storage.of("runs").local_path == Path.cwd() / "runs"
    assert Storage.of("~/runs").local_path == Path.home() / "runs"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("s3://", "names no place"),
        ("s3:///runs", "names no bucket; give s3://BUCKET/PREFIX"),
        ("s3://key:secret@bucket/runs", r"storage s3://…@bucket/runs holds a key; give keys by AWS_ACCESS_KEY_ID"),
        ("s3://bucket?endpoint=x", "unknown option endpoint; allowed: endpoint_override, region, scheme"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(given, message):
    with pytest.raises(StorageError, match=message) as caught:
        Storage.of(given)
    assert "secret" not in str(caught.value)


def test_an_object_store_is_no_directory():
    storage = Storage.of("s3://bucket/runs")
    assert not storage.is_local
    with pytest.raises(StorageError, match="is no directory on a disk; download"):
        _ = storage.local_path


def test_an_unknown_scheme_is_refused_with_the_reason():
    with pytest.raises(StorageError, match="storage 'ftp://host/runs' cannot be used: Unrecognized filesystem type"):
        Storage.of("ftp://host/runs").read("a")

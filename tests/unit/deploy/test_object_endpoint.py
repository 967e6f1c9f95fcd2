"""An endpoint whose journal, token and bundles lie in what stands for an object store."""

import os
import stat
import time

import pytest

from deploy.access.tokens import ensure_token, read_token, token_of
from deploy.bundle import Bundle
from deploy.copies import open_bundle
from deploy.places import endpoint_place, known_endpoints
from deploy.resident import Means, Resident
from deploy.rollout.decisions import decide_promotion
from deploy.rollout.ledger import Ledger
from deploy.rollout.versions import Offer
from orchestrator.domain.errors import BundleError, EndpointError, StorageError
from orchestrator.journal import Storage, cache_directory


@pytest.fixture
def put_bundle(object_store, make_bundle):
    """Makes a bundle in the object store; returns its address."""

    def put(name="1", **changes):
        bundles = Storage.of(object_store).child("digits").child("bundles")
        bundles.upload(make_bundle(name, **changes), name)
        return bundles.child(name).uri

    return put


def offer(address):
    bundle = open_bundle(address)
    return Offer(bundle.uri, bundle.digest, bundle.lineage)


def test_a_bundle_is_opened_from_a_copy_and_keeps_its_address(put_bundle):
    address = put_bundle()
    bundle = open_bundle(address)
    assert (bundle.uri, bundle.lineage.trial) == (address, 12)
    [copy] = (cache_directory() / "bundles").iterdir()
    (copy / "model.onnx").write_bytes(b"damaged")
    assert open_bundle(address).digest == bundle.digest, "a damaged copy is fetched again"


def test_a_bundle_that_is_gone_or_damaged_is_named(put_bundle, object_store):
    with pytest.raises(BundleError, match="mock:///runs/digits/bundles/2 is not there"):
        open_bundle("mock:///runs/digits/bundles/2")
    store, address = Storage.of(object_store), put_bundle()
    for name, content, said in (
        ("model.onnx", b"x", r"model\.onnx is not what was published"),
        ("_published.json", b"{}", "is no manifest of a published folder"),
        ("model.onnx", None, r"model\.onnx cannot be read"),
    ):
        before = store.read(f"digits/bundles/1/{name}")
        store.delete(f"digits/bundles/1/{name}")
        if content is not None:
            store.write(f"digits/bundles/1/{name}", content)
        with pytest.raises(BundleError, match=f"{address} was altered where it lies: .*{said}"):
            open_bundle(address)
        store.write(f"digits/bundles/1/{name}", before)
    assert open_bundle(address).uri == address


def test_a_storage_that_is_silent_is_not_blamed_on_the_bundle(put_bundle, monkeypatch):
    address = put_bundle()

    def silent(storage, name):
        raise StorageError("no answer")

    monkeypatch.setattr(Storage, "chunks", silent)
    with pytest.raises(StorageError, match="no answer"):
        open_bundle(address)


def test_copies_that_were_opened_longest_ago_are_taken_away(put_bundle, monkeypatch):
    monkeypatch.setattr("deploy.copies.KEPT", 3)
    copies = cache_directory() / "bundles"
    addresses = [put_bundle(str(number), trial=number) for number in range(5)]
    for age, address in enumerate(addresses[:3]):
        bundle = open_bundle(address)
        os.utime(max(copies.iterdir(), key=lambda path: path.stat().st_mtime), (age, age))
        assert bundle.lineage.trial == age
    open_bundle(addresses[0])  # now the second one is the oldest
    for name, age in ((".a.part", 0.0), (".b.part", time.time())):
        (copies / name).mkdir()
        os.utime(copies / name, (age, age))
    open_bundle(addresses[3])
    left = [path for path in copies.iterdir() if not path.name.startswith(".")]
    assert sorted(Bundle.open(path).lineage.trial for path in left) == [0, 2, 3]
    assert not (copies / ".a.part").exists(), "a killed process's is taken away"
    assert (copies / ".b.part").exists(), "another process may be at it"
    assert open_bundle(addresses[1]).lineage.trial == 1, "what is gone is brought again"


def test_large_copies_are_fewer_and_the_newest_stays(put_bundle, monkeypatch):
    monkeypatch.setattr("deploy.copies.KEPT_BYTES", 1)
    for number in range(3):
        assert open_bundle(put_bundle(str(number), trial=number)).lineage.trial == number
        assert len(list((cache_directory() / "bundles").iterdir())) == 1


def test_a_token_lies_on_the_storage_and_its_copy_is_the_owners(object_store):
    path = ensure_token(object_store, "digits")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.is_relative_to(cache_directory())
    given = endpoint_place(object_store, "digits").read("token").decode().strip()
    assert read_token(path) == token_of(object_store, "digits") == given
    assert ensure_token(object_store, "digits") == path


def test_another_hosts_token_replaces_the_copy(object_store):
    path = ensure_token(object_store, "digits")
    endpoint_place(object_store, "digits").write("token", b"theirs\n")
    assert token_of(object_store, "digits") == "theirs"
    assert read_token(path) == "theirs"


def test_an_endpoint_that_never_ran_has_no_token(object_store):
    with pytest.raises(EndpointError, match="Start the endpoint"):
        token_of(object_store, "digits")


def test_a_late_replica_serves_what_the_journal_says_and_follows_it(object_store, put_bundle, monkeypatch):
    monkeypatch.setattr("deploy.resident.STORE_YOUNG_FOLLOW_SECONDS", 0.01)
    monkeypatch.setattr("deploy.resident.STORE_FOLLOW_SECONDS", 0.01)
    ensure_token(object_store, "digits")
    ledger = Ledger(object_store, "digits")
    ledger.record(decide_promotion(ledger.state, offer(put_bundle()), who="", why="", at=""))
    replica = Resident("digits", object_store, Means())
    assert replica.report()["version"] == 1
    second = put_bundle("2", scores=(0.5, 0.5), trial=13)
    ledger.record(decide_promotion(ledger.state, offer(second), who="", why="", at=""))
    deadline = time.monotonic() + 20
    while replica.report()["version"] != 2:
        assert time.monotonic() < deadline, replica.report()
        time.sleep(0.02)
    replica.end(wait=True)
    assert known_endpoints(object_store) == ["digits"]
    ledger._journal.close()


def test_a_decision_that_the_storage_refused_is_answered_once_it_is_there(object_store, put_bundle, monkeypatch):
    ledger = Ledger(object_store, "digits")
    events = decide_promotion(ledger.state, offer(put_bundle()), who="", why="", at="")
    with monkeypatch.context() as patch:

        def silent(storage, name, data):
            raise StorageError("no answer")

        patch.setattr(Storage, "write", silent)
        for again in (events, []):
            with pytest.raises(StorageError, match="no answer"):
                ledger.record(again)
    assert decide_promotion(ledger.state, offer(put_bundle()), who="", why="", at="") == [], "it is decided already"
    assert not ledger.record([])
    assert list(ledger._journal.read()) == [events]
    ledger._journal.close()

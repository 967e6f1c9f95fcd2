"""Named tokens: what opens what, until when, and what a refusal says."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from deploy.access.key_following import KeyFollower
from deploy.access.keyring import Keyring
from deploy.access.named_tokens import MOST_FORMER, OWNER, NamedToken, Secret, TokenScope
from deploy.access.token_book import TokenBook
from deploy.access.tokens import ensure_token, token_of
from deploy.http.asgi import Refusal
from orchestrator.domain.errors import EndpointError, InvalidInput, OrchestratorError
from orchestrator.journal import Storage

PREDICT = frozenset({TokenScope.PREDICT})
HOUR = timedelta(hours=1)


def now() -> datetime:
    return datetime.now(UTC)


def bearer(secret: str) -> bytes:
    return f"Bearer {secret}".encode()


def named(secret: str, expires: datetime | None = None, **changes) -> NamedToken:
    given = {"scopes": PREDICT, "made": now(), "secrets": (Secret.of(secret),)} | changes
    return NamedToken("ci", expires=expires, **given)


def refusal(keyring: Keyring, given: bytes | None) -> Refusal:
    with pytest.raises(Refusal) as raised:
        keyring.caller(given)
    return raised.value


@pytest.fixture(params=["disk", "object store"])
def storage(request, tmp_path):
    place = tmp_path if request.param == "disk" else request.getfixturevalue("object_store")
    ensure_token(place, "digits")
    return place


@pytest.fixture
def book(storage):
    return TokenBook(storage, "digits")


# --- the check of a request ----------------------------------------------------------------------------------------


def test_each_token_is_known_by_its_name_and_scopes():
    keyring = Keyring("own", [named("a", now() + HOUR)])
    assert (keyring.caller(bearer("own")).name, keyring.caller(bearer("own")).scopes) == (OWNER, frozenset(TokenScope))
    for _ in range(2):  # found, then remembered
        assert (keyring.caller(b"bearer  a ").name, keyring.caller(bearer("a")).scopes) == ("ci", PREDICT)


@pytest.mark.parametrize("given", [bearer("b"), bearer(""), b"Basic a", b"Bearer", b"a", b"\xff\x00", bearer("own a")])
def test_a_wrong_token_is_refused_with_one_sentence_whatever_is_wrong_in_it(given):
    said = refusal(Keyring("own", [named("a")]), given)
    assert (said.status, said.reason) == (
        401,
        "The request has a wrong token. Send 'Authorization: Bearer TOKEN' with a token of this endpoint.",
    )


def test_no_token_is_told_apart():
    assert "no token" in refusal(Keyring("own"), None).reason


def test_an_expired_token_says_that_it_expired_and_is_refused_even_where_it_was_known():
    clock = [now().timestamp()]
    keyring = Keyring("own", [named("a", now() + HOUR)], clock=lambda: clock[0])
    keyring.caller(bearer("a"))
    clock[0] += 3601
    said = refusal(keyring, bearer("a"))
    assert (said.status, "The token expired at " in said.reason) == (401, True)
    assert said.headers == ((b"www-authenticate", b'Bearer realm="orchestrator", error="invalid_token"'),)


def test_a_scope_that_is_missing_is_named():
    caller = Keyring("own", [named("a")]).caller(bearer("a"))
    caller.require(TokenScope.PREDICT)
    caller.require(TokenScope.METRICS, TokenScope.PREDICT)
    with pytest.raises(
        Refusal, match="The token 'ci' has not the scope 'admin', which this needs; it has predict"
    ) as raised:
        caller.require(TokenScope.ADMIN)
    assert raised.value.status == 403
    assert b'error="insufficient_scope", scope="admin"' in raised.value.headers[0][1]


def test_only_tokens_that_open_are_remembered():
    keyring = Keyring("own", [named("a")])
    for attempt in range(100):
        refusal(keyring, bearer(str(attempt)))
    keyring.caller(bearer("a"))
    assert len(keyring._keys.known) == 1


# --- how one follows from another ----------------------------------------------------------------------------------


def test_a_rotated_token_opens_with_both_secrets_for_the_overlap():
    token = named("a").rotated(Secret.of("b"), None, now(), HOUR)
    keyring = Keyring("own", [token])
    assert keyring.caller(bearer("a")) == keyring.caller(bearer("b"))
    ended = named("a").rotated(Secret.of("b"), None, now() - 2 * HOUR, HOUR)
    assert "The token expired at" in refusal(Keyring("own", [ended]), bearer("a")).reason


def test_a_second_rotation_does_not_lengthen_the_life_of_the_first_secret():
    first = named("a").rotated(Secret.of("b"), None, now(), HOUR)
    second = first.rotated(Secret.of("c"), None, now(), 10 * HOUR)
    assert [old.until for old in second.secrets][2] == first.secrets[1].until
    shorter = first.rotated(Secret.of("c"), None, now(), timedelta(0))
    assert all(old.until <= now() for old in shorter.secrets[1:])


def test_no_more_former_secrets_are_kept_than_a_few():
    token = named("a")
    for turn in range(100):
        token = token.rotated(Secret.of(str(turn)), None, now(), HOUR)
    assert (len(token.secrets), token.revision) == (1 + MOST_FORMER, 101)


def test_an_expired_token_is_rotated_with_a_new_end_only_and_a_revoked_one_never():
    expired = named("a", now() - HOUR)
    with pytest.raises(InvalidInput, match="give --expires"):
        expired.rotated(Secret.of("b"), None, now(), HOUR)
    assert expired.rotated(Secret.of("b"), now() + HOUR, now(), HOUR).state(now()) == "valid"
    with pytest.raises(InvalidInput, match="was revoked"):
        expired.revoked(now()).rotated(Secret.of("b"), now() + HOUR, now(), HOUR)


def test_a_token_travels_as_plain_data():
    token = named("a", now() + HOUR).rotated(Secret.of("b"), None, now(), HOUR)
    assert NamedToken.from_dict(json.loads(json.dumps(token.to_dict()))) == token
    with pytest.raises(ValueError, match="format 9"):
        NamedToken.from_dict(token.to_dict() | {"format": 9})


@pytest.mark.parametrize("name", ["", "a/b", ".a", "a.b", "x" * 65, "-a", "ä"])
def test_a_name_that_can_be_no_file_is_refused(book, name):
    with pytest.raises(OrchestratorError):
        book.add(name, PREDICT, None, now())


# --- on the storage ------------------------------------------------------------------------------------------------


def test_a_replica_takes_up_what_changed(storage, book):
    follower = KeyFollower(storage, "digits")
    keyring = follower.keyring

    def opens(secret):
        follower.catch_up()
        try:
            return keyring.caller(bearer(secret)).name
        except Refusal:
            return None

    first = book.add("ci", PREDICT, now() + HOUR, now())
    assert opens(first) == "ci"
    second = book.rotate("ci", None, now(), HOUR)
    assert (opens(first), opens(second)) == ("ci", "ci")
    book.rotate("ci", None, now(), timedelta(0))
    assert (opens(first), opens(second)) == (None, None)
    book.revoke("ci", now())
    third = book.add("ci", frozenset({TokenScope.ADMIN}), None, now())
    assert (opens(third), keyring.caller(bearer(third)).scopes) == ("ci", {TokenScope.ADMIN})
    book.revoke("ci", now())
    assert (opens(third), opens(token_of(storage, "digits"))) == (None, OWNER)


def test_the_endpoints_own_token_is_rotated_in_its_file(storage, book):
    follower = KeyFollower(storage, "digits")
    before = token_of(storage, "digits")
    secret = book.rotate(OWNER, None, now(), HOUR)
    assert token_of(storage, "digits") == secret != before
    follower.catch_up()
    assert {follower.keyring.caller(bearer(each)).name for each in (before, secret)} == {OWNER}
    last = book.rotate(OWNER, None, now(), timedelta(0))
    follower.catch_up()
    assert follower.keyring.caller(bearer(last)).name == OWNER
    assert "expired" in refusal(follower.keyring, bearer(secret)).reason
    for forbidden in (lambda: book.revoke(OWNER, now()), lambda: book.rotate(OWNER, now(), now(), HOUR)):
        with pytest.raises(InvalidInput, match="'owner'"):
            forbidden()


def test_an_own_token_that_was_put_there_by_hand_is_followed(tmp_path):
    path = ensure_token(tmp_path, "digits")
    follower = KeyFollower(tmp_path, "digits")
    path.write_text("mine\n")
    follower.catch_up()
    assert follower.keyring.caller(bearer("mine")).name == OWNER
    secret = TokenBook(tmp_path, "digits").rotate(OWNER, None, now(), HOUR)
    follower.catch_up()
    assert {follower.keyring.caller(bearer(each)).name for each in ("mine", secret)} == {OWNER}


def change(book, name, number):
    """Revokes a token where `number` is 0, else rotates it; returns the error, where there was one."""
    try:
        book.revoke(name, now()) if number == 0 else book.rotate(name, None, now(), HOUR)
    except OrchestratorError as error:
        return error
    return None


def test_changes_at_once_are_made_one_after_the_other_and_a_revoked_token_stays_revoked(tmp_path):
    ensure_token(tmp_path, "digits")
    book = TokenBook(tmp_path, "digits")
    for turn in range(8):
        name = f"t{turn}"
        book.add(name, PREDICT, None, now())

        with ThreadPoolExecutor(4) as pool:
            errors = list(pool.map(partial(change, book, name), range(4)))
        token = next(each for each in book.read() if each.name == name)
        assert (token.is_revoked, errors[0]) == (True, None)
        assert all(error is None or "was revoked" in str(error) for error in errors)
        assert errors.count(None) == token.revision - 1  # each that was done is a revision


def test_in_an_object_store_a_change_that_comes_too_late_is_refused(object_store):
    ensure_token(object_store, "digits")
    late, prompt = TokenBook(object_store, "digits"), TokenBook(object_store, "digits")
    prompt.add("ci", PREDICT, None, now())
    (before,) = late.read()
    prompt.rotate("ci", None, now(), HOUR)
    with pytest.raises(EndpointError, match="changed by somebody else meanwhile"):
        late._put(before.rotated(Secret.of("a"), None, now(), HOUR))  # its name is taken
    prompt.rotate("ci", None, now(), HOUR)
    with pytest.raises(EndpointError, match="changed by somebody else meanwhile"):
        late._put(before.rotated(Secret.of("a"), None, now(), HOUR))  # its name is free again
    assert [token.revision for token in prompt.read()] == [3]


def test_only_hashes_are_kept_and_only_the_owner_reads_them(tmp_path):
    ensure_token(tmp_path, "digits")
    book = TokenBook(tmp_path, "digits")
    secrets = [book.add("ci", PREDICT, None, now()), book.rotate("ci", None, now(), HOUR)]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == [".lock", "ci.000002.json", "token"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    assert stat.S_IMODE((tmp_path / "endpoints/digits/tokens").stat().st_mode) == 0o700
    assert not [path for path in files for secret in secrets if secret in path.read_text()]


def test_a_file_that_is_no_token_opens_nothing_and_harms_no_other(storage, book, caplog):
    secret = book.add("ci", PREDICT, None, now())
    place = Storage.of(storage).child("endpoints").child("digits").child("tokens")
    for name, data in (
        ("bad.000001.json", b"{"),
        ("worse.000001.json", b'{"format": 1}'),
        ("other.000001.json", place.read("ci.000001.json")),
        ("note.txt", b"x"),
    ):
        place.write(name, data)
    follower = KeyFollower(storage, "digits")
    assert [token.name for token in book.read()] == ["ci"]
    assert follower.keyring.caller(bearer(secret)).name == "ci"
    assert "'bad' cannot be read" in caplog.text


def test_a_storage_that_cannot_be_read_leaves_the_keys_as_they_are(tmp_path, caplog):
    path = ensure_token(tmp_path, "digits")
    secret = TokenBook(tmp_path, "digits").add("ci", PREDICT, None, now())
    follower = KeyFollower(tmp_path, "digits")
    path.rename(path.with_name("away"))
    follower.catch_up()
    follower.catch_up()
    assert follower.keyring.caller(bearer(secret)).name == "ci"
    assert caplog.text.count("cannot follow") == 1

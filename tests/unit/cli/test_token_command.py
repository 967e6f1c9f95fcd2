"""`token`, on a storage alone."""

import json
import stat

import pytest

from deploy.access.key_following import KeyFollower
from deploy.access.tokens import ensure_token, token_of
from orchestrator.cli.program import execute


@pytest.fixture
def run(tmp_path, capsys):
    """Runs `token ...` on a storage with an endpoint; returns the exit code and what it wrote."""
    ensure_token(tmp_path, "digits")

    def run(*words):
        code = execute(["token", *words, "--storage", str(tmp_path)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def opens(tmp_path, secret):
    return KeyFollower(tmp_path, "digits").keyring.caller(b"Bearer " + secret.strip().encode())


def test_a_token_is_made_shown_once_and_listed_without_its_secret(run, tmp_path):
    code, secret, said = run("add", "digits", "ci", "--expires", "30d")
    assert (code, opens(tmp_path, secret).name) == (0, "ci")
    assert "opens predict and ends at" in said
    code, listed, _ = run("list", "digits")
    assert secret.strip() not in listed
    assert [line.split()[:3] for line in listed.splitlines()[1:]] == [
        ["owner", "admin", "metrics"],
        ["ci", "predict", "valid"],
    ]
    (own, ci) = json.loads(run("list", "digits", "--json")[1])
    assert (own["token"], ci["token"], ci["scopes"], ci["state"]) == ("owner", "ci", ["predict"], "valid")


def test_a_secret_goes_into_a_file_that_its_owner_alone_reads(run, tmp_path):
    path = tmp_path / "secret"
    code, out, said = run("add", "digits", "ops", "--scope", "admin", "--scope", "metrics", "--file", str(path))
    assert (code, out) == (0, "")
    assert (stat.S_IMODE(path.stat().st_mode), str(path) in said) == (0o600, True)
    assert opens(tmp_path, path.read_text()).scopes == {"admin", "metrics"}
    code, _, said = run("add", "digits", "other", "--file", str(tmp_path / "no" / "folder"))
    assert (code, "that can be written to" in said, len(json.loads(run("list", "digits", "--json")[1]))) == (2, True, 2)


def test_rotation_and_revocation(run, tmp_path):
    first = run("add", "digits", "ci")[1]
    made = json.loads(run("rotate", "digits", "ci", "--overlap", "10m", "--json")[1])
    assert (len(made["former_until"]), opens(tmp_path, made["secret"]).name, opens(tmp_path, first).name) == (
        1,
        "ci",
        "ci",
    )
    assert run("rotate", "digits", "owner", "--overlap", "0")[1].strip() == token_of(tmp_path, "digits")
    assert run("revoke", "digits", "ci")[0] == 0
    assert json.loads(run("list", "digits", "--json")[1])[1]["state"] == "revoked"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("add", "digits", "owner"), "has a token 'owner'"),
        (("add", "digits", "a.b"), "letter or digit first"),
        (("add", "digits", "ci", "--scope", "all"), "'all' is not one of"),
        (("add", "digits", "ci", "--expires", "soon"), "--expires"),
        (("add", "digits", "ci", "--expires", "99999999d"), "a hundred years"),
        (("add", "digit", "ci"), "no endpoint 'digit'"),
        (("rotate", "digits", "nobody"), "no token 'nobody'; there: owner"),
        (("revoke", "digits", "owner"), "cannot be revoked"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(run, words, why):
    code, out, said = run(*words)
    assert (code, out, why in said) == (2, "", True)
    assert len(json.loads(run("list", "digits", "--json")[1])) == 1

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.access.tokens import ensure_token, read_token, token_file
from orchestrator.domain.errors import EndpointError


def test_token_is_made_once_and_only_its_owner_reads_it(tmp_path):
    path = ensure_token(tmp_path, "digits")
    assert path == tmp_path / "endpoints" / "digits" / "token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = read_token(path)
    assert len(token) >= 43
    assert read_token(ensure_token(tmp_path, "digits")) == token
    assert [entry.name for entry in path.parent.iterdir()] == ["token"]


def test_endpoints_have_different_tokens(tmp_path):
    assert read_token(ensure_token(tmp_path, "a")) != read_token(ensure_token(tmp_path, "b"))


def test_all_who_start_an_endpoint_at_once_get_the_same_token(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        tokens = list(pool.map(lambda _: read_token(ensure_token(tmp_path, "digits")), range(32)))
    assert len(set(tokens)) == 1


def test_missing_or_empty_token_says_what_to_do(tmp_path):
    path = token_file(tmp_path, "digits")
    with pytest.raises(EndpointError, match="Start the endpoint"):
        read_token(path)
    path.parent.mkdir(parents=True)
    path.write_text("\n")
    with pytest.raises(EndpointError, match="is empty"):
        read_token(path)


def test_unwritable_storage_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EndpointError, match="Give another storage"):
        ensure_token(tmp_path / "file", "digits")


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a b", "x" * 101])
def test_a_name_that_is_no_directory_is_refused(tmp_path, name):
    with pytest.raises(EndpointError, match="cannot be used"):
        token_file(tmp_path, name)

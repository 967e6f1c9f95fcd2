"""The audit log: every entry once, from any number of writers, and no flood fills it."""

import json
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from deploy.access.audit import DONE, REFUSED, AuditLog, Entry, trail
from deploy.access.denials import MOST_SOURCES, OTHERS, Denials
from deploy.answering.desk import origin_of
from deploy.places import journal_directory
from deploy.rollout.decisions import decide_freeze
from deploy.rollout.state import EndpointState
from orchestrator.cli.program import execute
from orchestrator.journal import Storage, open_journal


def minute(number: int) -> str:
    return f"2026-01-01T12:{number:02}:00.000+00:00"


@pytest.fixture(params=["disk", "object store"])
def storage(request, tmp_path):
    return tmp_path if request.param == "disk" else request.getfixturevalue("object_store")


def test_entries_of_many_writers_are_all_there(storage):
    entries = [
        Entry(minute(number), "ci", f"did {number}", DONE, "10.0.0.3", "ä\n", number + 1) for number in range(40)
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda entry: AuditLog(storage, "digits").append([entry]), entries))
    assert sorted(AuditLog(storage, "digits").read(), key=lambda entry: entry.at) == entries


def test_only_the_owner_reads_it_and_a_torn_line_harms_no_other(tmp_path):
    log = AuditLog(tmp_path, "digits")
    log.append([Entry(minute(1), "ci", "one", DONE)])
    (path,) = (tmp_path / "endpoints/digits/audit").iterdir()
    assert (stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)) == (0o600, 0o700)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + b'\n[1]\n{"at": 1}\n' + whole)
    assert [entry.what for entry in log.read()] == ["one"]


def test_the_trail_has_the_journals_decisions_between_the_logs_entries(storage):
    log = AuditLog(storage, "digits")
    log.append([Entry(minute(3), "ci", "promote", REFUSED)])
    log.append([Entry(minute(1), "root", "token add ci", DONE)])
    journal = open_journal(journal_directory(storage, "digits"))
    (event,) = decide_freeze(EndpointState(), frozen=True, who="ci", why="a holiday", at=minute(2))
    journal.append([event | {"origin": "10.0.0.3"}])
    journal.close()
    assert [(entry.who, entry.what, entry.outcome) for entry in trail(storage, "digits")] == [
        ("root", "token add ci", DONE),
        ("ci", "frozen", DONE),
        ("ci", "promote", REFUSED),
    ]
    assert [(entry.origin, entry.detail) for entry in trail(storage, "digits")][1] == ("10.0.0.3", "a holiday")


def test_the_command_shows_the_trail(tmp_path, capsys):
    AuditLog(tmp_path, "digits").append(
        [Entry(minute(1), "unknown", "authentication", REFUSED, "10.0.0.3", "a wrong token", times=7)]
    )
    assert execute(["audit", "digits", "--storage", str(tmp_path)]) == 0
    assert "refused 7 times" in capsys.readouterr().out
    assert execute(["audit", "digits", "--storage", str(tmp_path), "--since", "2026-01-02", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_refusals_of_one_source_are_one_entry_and_those_of_many_one_more():
    denials = Denials()
    for _ in range(1000):
        denials.note("a wrong token", "", "10.0.0.3")
    for number in range(1000):
        denials.note("a wrong token", "", f"10.0.1.{number}")
    entries = denials.take()
    assert len(entries) == MOST_SOURCES + 1
    assert (entries[0].origin, entries[0].times, entries[0].who) == ("10.0.0.3", 1000, "unknown")
    assert (entries[-1].origin, sum(entry.times for entry in entries)) == (OTHERS, 2000)
    assert denials.take() == []


@pytest.mark.parametrize(
    ("peer", "said", "origin"),
    [
        ("10.0.0.3", [], "10.0.0.3"),
        ("10.0.0.3", [b"1.2.3.4"], "10.0.0.3"),
        ("127.0.0.1", [b"1.2.3.4", b"9.9.9.9, 10.0.0.3"], "10.0.0.3 via 127.0.0.1"),
        ("::1", [b"fe80::1"], "fe80::1 via ::1"),
        ("127.0.0.1", [b"\xff<script>"], "127.0.0.1"),
        (None, [b"1.2.3.4"], ""),
    ],
)
def test_only_a_proxy_on_this_host_is_believed_for_whom_it_asks(peer, said, origin):
    headers = [(b"X-Forwarded-For", value) for value in said]
    assert origin_of({"client": peer and (peer, 4711), "headers": headers}) == origin


def test_no_storage_is_written_where_nothing_happened(tmp_path):
    AuditLog(tmp_path, "digits").append([])
    assert Storage.of(tmp_path).names() == []

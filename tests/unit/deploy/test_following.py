"""A replica's looks at its endpoint's journal: cheap while nothing happens, and nothing that happens is missed."""

import os
from pathlib import Path
from typing import Any

import pytest

from deploy import following
from deploy.bundle import Lineage
from deploy.following import JournalFollower
from deploy.rollout.decisions import decide_promotion
from deploy.rollout.state import EndpointState, replay
from deploy.rollout.versions import Offer
from orchestrator.domain.errors import JournalDamaged
from orchestrator.journal import open_journal, read_journal

LONG = 1e9


class Life:
    """An endpoint that promotes, whose journal is claimed again and again."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.state = directory, EndpointState()

    def promote(self, count: int = 1, *, in_one_epoch: bool = True) -> None:
        journal = open_journal(self.directory)
        for _ in range(count):
            number = len(self.state.versions)
            offer = Offer(f"file:///{number}", f"digest {number}", Lineage("digits", number, 9))
            journal.append(decide_promotion(self.state, offer, who="", why="", at=""))
            self.state = replay(read_journal(self.directory))
            if not in_one_epoch:
                journal.close()
                journal = open_journal(self.directory)
        journal.close()


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path / "journal")


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """All looks at all files."""
    found: list[Any] = []
    scandir = os.scandir

    def noted(path: Any) -> Any:
        found.append(path)
        return scandir(path)

    monkeypatch.setattr(following.os, "scandir", noted)
    return found


@pytest.fixture(autouse=True)
def no_whole_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "WHOLE_LOOK_SECONDS", LONG)


@pytest.mark.parametrize("in_one_epoch", [True, False])
@pytest.mark.parametrize("quiet", [0, 1, 2, 5])
def test_what_is_written_is_seen_by_the_next_look(life: Life, quiet: int, in_one_epoch: bool) -> None:
    follower = JournalFollower(life.directory)
    for _ in range(6):
        for _ in range(quiet):
            assert follower.state() == life.state
        life.promote(2, in_one_epoch=in_one_epoch)
        assert follower.state() == life.state


def test_what_one_writer_writes_is_seen_while_it_writes(life: Life, tmp_path: Path) -> None:
    life.promote()
    journal = open_journal(life.directory)
    follower = JournalFollower(life.directory)
    state = life.state
    for number in range(1, 6):
        for _ in range(3):
            assert follower.state() == state
        offer = Offer(f"file:///{number}", f"digest {number}", Lineage("digits", number, 9))
        events = decide_promotion(state, offer, who="", why="", at="")
        journal.append(events)
        for event in events:
            state = state.apply(event)
        assert follower.state() == state
    journal.close()


def grow_old(directory: Path) -> None:
    """Has the folder be as it is for long."""
    os.utime(directory, ns=(0, os.stat(directory).st_mtime_ns - 10 * following.COARSEST_TICK_NS))


def test_while_nothing_happens_files_are_not_listed(life: Life, looks: list[Any]) -> None:
    life.promote()
    grow_old(life.directory)
    follower = JournalFollower(life.directory)
    for _ in range(3):
        follower.state()
    looks.clear()
    for _ in range(50):
        assert follower.state() == life.state
    assert not looks
    life.promote()
    assert follower.state() == life.state
    looks.clear()
    for _ in range(5):
        assert follower.state() == life.state
    assert len(looks) >= 5, "the folder changed a moment ago: its time does not tell of what changes in this moment"


def test_what_is_appended_to_a_file_of_an_old_folder_is_seen(life: Life) -> None:
    life.promote()
    journal = open_journal(life.directory)
    offers = [Offer(f"file:///{n}", f"digest {n}", Lineage("digits", n, 9)) for n in range(1, 6)]
    state, follower = life.state, JournalFollower(life.directory)
    for offer in offers:
        events = decide_promotion(state, offer, who="", why="", at="")
        journal.append(events)
        for event in events:
            state = state.apply(event)
        grow_old(life.directory)
        for _ in range(3):
            assert follower.state() == state
    journal.close()


def test_all_files_are_listed_now_and_then_all_the_same(
    life: Life, looks: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "WHOLE_LOOK_SECONDS", 0.0)
    life.promote()
    grow_old(life.directory)
    follower = JournalFollower(life.directory)
    follower.state()
    looks.clear()
    for _ in range(10):
        follower.state()
    assert len([path for path in looks if Path(path) == life.directory]) == 10


def test_a_look_that_failed_is_made_again(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    life.promote()
    grow_old(life.directory)
    follower = JournalFollower(life.directory)
    for _ in range(3):
        follower.state()
    life.promote()

    def fail(_: Any) -> Any:
        raise JournalDamaged("unreadable for now")

    with monkeypatch.context() as broken:
        broken.setattr(JournalFollower, "_read", fail)
        for _ in range(4):
            with pytest.raises(JournalDamaged):
                follower.state()
    assert follower.state() == life.state


def test_a_journal_that_goes_away_is_no_journal_any_more(life: Life) -> None:
    life.promote()
    grow_old(life.directory)
    follower = JournalFollower(life.directory)
    for _ in range(3):
        follower.state()
    for file in life.directory.iterdir():
        if file.is_file():
            file.unlink()
    assert follower.state() == EndpointState()

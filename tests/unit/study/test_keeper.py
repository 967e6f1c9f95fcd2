"""The study with its journal: who may write it, what it goes on from, and who may read it meanwhile."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.domain.errors import (
    ExchangeRefused,
    InvalidSpecification,
    JournalDamaged,
    StorageError,
    StudyBusy,
    UnknownStudy,
)
from orchestrator.domain.exchange import Message, Progress
from orchestrator.domain.specification import StudySpecification
from orchestrator.domain.trials import CheckpointRef
from orchestrator.journal import MemoryJournal, open_journal
from orchestrator.study import Layout, Phase, StudyKeeper, first_failure, read_study, replay, status, studies_on
from orchestrator.study.rebuilding import new_study

STUDY = {
    "study": "bowl",
    "trainable": "bowls:Bowl",
    "space": {
        "x": {"min": 0.0, "max": 1.0},
        "kind": {"values": ["flat", "deep"]},
        "depth": {"min": 1, "max": 9, "when": {"kind": "deep"}},
    },
    "objective": {"metric": "loss"},
    "data": {"source": "sklearn:digits"},
    "search": "random",
    "scheduler": {"kind": "asha", "max": 9},
    "budget": {"trials": 9},
}


def specification(**changes):
    return StudySpecification.from_dict(STUDY | changes)


@pytest.fixture
def open_keeper(tmp_path):
    clock, opened = itertools.count(1000), []

    def make(given=None, **options):
        keeper = StudyKeeper.open(given or specification(), lambda: float(next(clock)), storage=tmp_path, **options)
        opened.append(keeper)
        return keeper

    yield make
    for keeper in opened:
        keeper.close()


def work(keeper, trials=3, worker="w"):
    """Brings some trials to the first milestone."""
    for _ in range(trials):
        [run] = keeper.exchange(Message(worker, room=1)).runs
        report(keeper, run, worker)


def report(keeper, run, worker="w"):
    reports = tuple((s, {"loss": run.params["x"] + 1 / s}) for s in range(run.reported + 1, run.until + 1))
    ref = CheckpointRef(run.until, f"c/{run.trial}/{run.until}", "", 1)
    keeper.exchange(Message(worker, progress=(Progress(run.trial, run.attempt, reports, ref),)))


def test_a_second_writer_is_refused_and_told_who_the_first_one_is(open_keeper):
    open_keeper()
    with pytest.raises(StudyBusy, match=r"is being written by process \d+"):
        open_keeper()


def test_a_closed_study_may_be_opened_by_somebody_else(open_keeper):
    open_keeper().close()
    assert open_keeper().study.state.epoch == 2


def test_a_study_goes_on_with_everything_that_was(open_keeper):
    first = open_keeper(defaults={"x": 0.5}, code_sha256="c", versions={"python": "3"}, address="a:1")
    first.measured(baseline=2.0, data_sha256="d")
    work(first)
    first.enqueue({"x": 0.25})
    before = status(first.study.state)
    trials = first.study.state.trials
    first.close()
    second = open_keeper(code_sha256="c")
    after = status(second.study.state)
    assert second.study.state.trials == trials
    for key in before.keys() - {"epoch", "seconds", "address"}:
        assert after[key] == before[key], key
    assert second.study.state.created.versions == {"python": "3"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"trainable": "bowls:Other"}, "trainable"),
        ({"space": {"x": {"min": 0.0, "max": 2.0}}}, "space"),
        ({"objective": {"metric": "accuracy", "goal": "maximize"}}, "objective"),
        ({"data": {"source": "sklearn:wine"}}, "data"),
        ({"scheduler": "none"}, "scheduler"),
        ({"search": "tpe"}, "search"),
        ({"seed": 1}, "seed"),
        ({"seed": 1, "search": "tpe"}, "search, seed"),
    ],
)
def test_another_study_of_the_same_name_is_refused_and_nothing_is_lost(open_keeper, changes, named):
    first = open_keeper()
    work(first)
    first.close()
    with pytest.raises(InvalidSpecification, match=f"exists with another {named}; give the new study another name"):
        open_keeper(specification(**changes))
    assert len(open_keeper().study.state.trials) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": {"trials": 20, "time": "1h"}},
        {"resources": {"cpu": 2, "concurrent": 1}},
        {"execution": "pooled"},
        {"serve": {"name": "other"}},
        {"failures": {"errors": 3}},
        {"timeout": "5m"},
        {"trainable": ""},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_budgets_resources_and_policies_may_change_between_lives(open_keeper, changes):
    open_keeper().close()
    open_keeper(specification(**changes))


def test_changed_code_is_refused(open_keeper):
    open_keeper(code_sha256="before").close()
    with pytest.raises(InvalidSpecification, match=r"the code of 'bowls:Bowl' has changed since study 'bowl' began"):
        open_keeper(code_sha256="after")
    open_keeper(code_sha256="before").close()
    open_keeper()


def test_a_study_may_live_in_memory():
    keeper = StudyKeeper.open(specification(), lambda: 1.0, storage=None)
    work(keeper)
    assert isinstance(keeper.journal, MemoryJournal)
    again = new_study(specification())
    replay(again, keeper.journal.read())
    assert again.state.trials == keeper.study.state.trials


def test_no_two_workers_of_a_study_have_one_name(open_keeper):
    first = open_keeper()
    names = {first.name_worker("inline"), first.name_worker("inline")}
    first.close()
    second = open_keeper()
    names |= {second.name_worker("inline"), second.name_worker("ask")}
    assert len(names) == 4


# --- while it cannot be written --------------------------------------------------------------------------------------


class FullDisk(MemoryJournal):
    """A journal whose disk is full from time to time."""

    is_full = False

    def append(self, events, *, durable=True):
        super().append(events, durable=durable)
        if self.is_full and (events or durable):
            raise StorageError("no space left")


def test_nobody_hears_of_what_could_not_be_written_and_the_journal_misses_nothing():
    journal = FullDisk()
    keeper = StudyKeeper(new_study(specification()), journal, lambda: 1.0)
    keeper._do(lambda now: keeper.study.create(now, defaults=None, code_sha256="", versions={}))
    keeper._do(lambda now: keeper.study.open(now, epoch=1, writer="w"))
    journal.is_full = True
    for _ in range(2):
        with pytest.raises(StorageError):
            keeper.exchange(Message("w", room=1))
    assert not keeper.is_settled
    journal.is_full = False
    [run] = keeper.exchange(Message("w", room=1)).runs
    assert run.trial == 0
    assert keeper.is_settled
    again = new_study(specification())
    replay(again, journal.read())
    assert again.state.trials == keeper.study.state.trials


def test_a_writer_that_was_succeeded_answers_nobody(open_keeper, tmp_path):
    former = open_keeper()
    (Layout(tmp_path, "bowl").journal.local_path / "writer.lock").unlink()
    open_keeper()
    for _ in range(2):
        with pytest.raises(ExchangeRefused, match="a later writer has taken over"):
            former.exchange(Message("w", room=1))


def test_an_unwritable_storage_is_an_error_that_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        StudyKeeper.open(specification(), lambda: 1.0, storage=tmp_path / "file")


# --- reading ---------------------------------------------------------------------------------------------------------


def test_another_process_reads_a_study_while_it_runs(open_keeper, tmp_path):
    keeper = open_keeper()
    work(keeper)
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from orchestrator.study import read_study, status\n"
        f"print(status(read_study(Path({str(tmp_path)!r}), 'bowl').state)['states'])\n"
        "assert 'optuna' not in sys.modules and 'ray' not in sys.modules\n"
    )
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == str(status(keeper.study.state)["states"])
    work(keeper, trials=1)


def test_a_reader_sees_what_the_writer_sees(open_keeper, tmp_path):
    keeper = open_keeper(specification(search="tpe", budget={"trials": 4}))
    work(keeper)
    keeper.stop()
    read = read_study(tmp_path, "bowl").state
    assert status(read) == status(keeper.study.state)
    assert read.phase is Phase.ENDING, "its best trial still runs"
    assert first_failure(read) is None


def test_a_reader_of_a_damaged_journal_is_told_the_place(open_keeper, tmp_path):
    keeper = open_keeper()
    work(keeper)
    keeper.close()
    [log] = Layout(tmp_path, "bowl").journal.local_path.glob("*.log")
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0xFF
    log.write_bytes(content)
    with pytest.raises(JournalDamaged, match=log.name):
        read_study(tmp_path, "bowl")


@pytest.mark.parametrize(
    "events",
    [
        [{"type": "started", "at": 1.0, "trial": 7, "attempt": 0, "worker": "w", "step": 0}],
        [{"type": "finished", "at": 1.0, "trial": 0}],
        [{"type": "suggested", "at": 1.0, "trial": 5, "params": {}, "origin": "search"}],
        [{"type": "finished", "at": 1.0}],
    ],
    ids=["no such trial", "it does not run", "a gap", "a field is missing"],
)
def test_an_event_that_cannot_follow_is_damage_and_names_the_batch(events):
    study = new_study(specification())
    first = {"type": "suggested", "at": 1.0, "trial": 0, "params": {"x": 0.5, "kind": "flat"}, "origin": "search"}
    with pytest.raises(JournalDamaged, match=r"batch 2 of study 'bowl' holds an event"):
        replay(study, [[first], events])


def test_a_journal_that_does_not_say_what_was_asked_for_cannot_be_read(tmp_path):
    open_journal(Layout(tmp_path, "bowl").journal).close()
    with pytest.raises(JournalDamaged, match="does not say what was asked for"):
        read_study(tmp_path, "bowl")


# --- where things lie ------------------------------------------------------------------------------------------------


def test_an_unknown_study_is_named_beside_those_that_are_there(open_keeper, tmp_path):
    open_keeper()
    (tmp_path / "endpoints" / "bowl" / "journal").mkdir(parents=True)
    (tmp_path / "empty").mkdir()
    assert studies_on(tmp_path) == ["bowl"]
    with pytest.raises(UnknownStudy, match=r"no study 'bowel' on .*; there: bowl\. Did you mean 'bowl'\?"):
        read_study(tmp_path, "bowel")


def test_a_storage_without_studies_says_so():
    assert studies_on(Path("/nowhere/at/all")) == []
    with pytest.raises(UnknownStudy, match="there are none"):
        Layout(Path("/nowhere/at/all"), "bowl").require()


def test_the_parts_of_a_study_lie_in_its_directory():
    layout = Layout(Path("/runs"), "bowl")
    parts = (layout.journal, layout.checkpoints, layout.bundles)
    assert [str(part) for part in parts] == [
        "/runs/bowl/journal",
        "/runs/bowl/checkpoints",
        "/runs/bowl/bundles",
    ]


class Dawdling(MemoryJournal):
    """A journal whose storage lets its writer wait, and then may not take it."""

    def __init__(self):
        super().__init__()
        self.now, self.waits, self.fails = 1000.0, 0.0, False

    def append(self, events, *, durable=True):
        super().append(events, durable=durable)
        self.now += self.waits
        if self.fails:
            raise StorageError("no answer")


@pytest.mark.parametrize("fails", [False, True])
def test_while_the_storage_kept_the_study_waiting_nobody_was_silent(fails):
    journal = Dawdling()
    keeper = StudyKeeper.of_journal(journal, specification(timeout="30s"), lambda: journal.now)
    keeper.exchange(Message("w", 0, "h", room=1))
    keeper.beat("h")
    journal.waits, journal.fails = 600.0, fails
    if fails:
        for _ in range(3):
            with pytest.raises(StorageError):
                keeper.exchange(Message("v", 0, "h", room=1))
            with pytest.raises(StorageError):
                keeper.tick()
    else:
        keeper.exchange(Message("v", 0, "h", room=1))
    journal.waits, journal.fails = 0.0, False
    keeper.tick()
    assert keeper.study.fenced == frozenset()
    assert [trial.failures for trial in keeper.study.state.trials] == [[], []]
    journal.now += 31
    keeper.tick()
    assert keeper.study.fenced == {"w", "v"}

"""The worker: takes orders, obeys decisions, and says what came of them."""

from dataclasses import replace

import pytest
from worker_orders import order

from orchestrator.domain.errors import StorageError
from orchestrator.domain.exchange import Answer, Export
from orchestrator.domain.trials import Decision
from orchestrator.study import Layout
from orchestrator.tuning.checkpoints import CheckpointStore
from orchestrator.tuning.worker import CHECKPOINT_SECONDS, FLUSH_SECONDS, FencedError, OutOfMemoryError
from orchestrator.tuning.workshop import Workshop
from trainables.testing import Quadratic, Trivial

CONTINUE, PAUSE, STOP = Decision.CONTINUE, Decision.PAUSE, Decision.STOP


class Failing(Quadratic):
    """Raises at its second step."""

    def step(self):
        if self.steps == 1:
            raise ValueError("no further")
        return super().step()


class Hungry(Quadratic):
    """Runs out of memory."""

    def step(self):
        raise MemoryError


class Unsaved(Quadratic):
    """Keeps no checkpoints."""

    saves = False


def test_a_trial_runs_to_its_milestone_and_leaves_a_checkpoint_there(make_worker):
    worker, desk, _ = make_worker()
    desk.say(order(until=3))
    worker.turn()
    worker.turn()
    [told] = desk.progress
    assert (told.trial, told.attempt, told.done, told.failure) == (0, 0, False, None)
    assert [step for step, _ in told.reports] == [1, 2, 3]
    assert told.reports[0][1] == {"loss": 5.0}
    assert told.checkpoint.step == 3


def test_a_decision_is_obeyed(make_worker):
    worker, desk, _ = make_worker()
    desk.say(order(0, until=1), order(1, until=1), order(2, until=1))
    worker.turn()
    desk.say(verdicts={0: (CONTINUE, 3), 1: (PAUSE, 1), 2: (STOP, 1)})
    worker.turn()
    assert worker.holds == 1
    worker.turn()
    [told] = desk.progress
    assert (told.trial, [step for step, _ in told.reports]) == (0, [2, 3])


def test_what_was_not_answered_is_said_again(make_worker):
    worker, desk, _ = make_worker()
    desk.say(order())
    worker.turn()
    worker.turn()
    first = desk.progress
    worker.turn()
    assert desk.progress == first, "no verdict came, so nothing new was done"


def test_a_paused_trial_goes_on_from_its_checkpoint_as_if_nothing_had_happened(make_worker):
    worker, desk, _ = make_worker()
    desk.say(order(until=1))
    worker.turn()
    desk.say(verdicts={0: (PAUSE, 1)})
    worker.turn()
    ref = desk.progress[0].checkpoint
    desk.say(order(until=3, checkpoint=ref, reported=1))
    worker.turn()
    worker.turn()
    assert desk.progress[0].reports == ((2, {"loss": 4.5}), (3, {"loss": 4.0 + 1 / 3}))


def test_long_stretches_are_cut_so_that_the_study_hears_of_them(make_worker):
    worker, desk, _ = make_worker(tick=FLUSH_SECONDS / 2)
    desk.say(order(until=9))
    worker.turn()
    worker.turn()
    [told] = desk.progress
    assert 0 < len(told.reports) < 9
    assert told.checkpoint is None, "between milestones nothing is saved so soon"
    desk.say(verdicts={0: (CONTINUE, 9)})
    worker.turn()
    worker.turn()
    assert desk.progress[0].reports[0][0] == told.reports[-1][0] + 1


def test_what_a_kill_may_cost_is_bounded_by_checkpoints_between_milestones(make_worker):
    worker, desk, clock = make_worker()
    desk.say(order(until=9))
    clock.tick = CHECKPOINT_SECONDS
    worker.turn()
    worker.turn()
    [told] = desk.progress
    assert told.reports[-1][0] == 1
    assert told.checkpoint.step == 1


def test_a_trainable_that_saves_nothing_says_no_checkpoint(make_worker, tmp_path):
    worker, desk, _ = make_worker(Unsaved)
    desk.say(order())
    worker.turn()
    worker.turn()
    assert desk.progress[0].checkpoint is None
    assert not list(Layout(tmp_path, "bowl").checkpoints.local_path.rglob("*"))


def test_it_asks_for_more_trials_at_once_only_where_they_are_short_and_the_study_lets_it(make_worker):
    worker, desk, clock = make_worker(Trivial)
    rooms = []
    for trial in range(5):
        desk.say(order(trial, until=1), batch=4, verdicts={trial - 1: (STOP, 1)})
        worker.turn()
        rooms.append(desk.heard[-1].room)
    assert rooms == [1, 2, 4, 4, 4]
    desk.say(order(9, until=1), batch=4)
    clock.tick = 0.5
    worker.turn()
    worker.turn()
    assert desk.heard[-1].room == 1


def test_alone_it_holds_one_trial(make_worker):
    worker, desk, _ = make_worker(Trivial)
    for trial in range(3):
        desk.say(order(trial, until=1), verdicts={trial - 1: (STOP, 1)})
        worker.turn()
        assert desk.heard[-1].room == 1


def test_user_code_that_raises_is_a_failure_at_the_users_line_and_work_goes_on(make_worker):
    worker, desk, _ = make_worker(Failing)
    desk.say(order(0), order(1, until=1))
    worker.turn()
    worker.turn()
    failed, fine = desk.progress
    assert failed.failure.message == "ValueError: no further"
    assert failed.failure.traceback.rstrip().endswith("ValueError: no further")
    assert "test_worker.py" in failed.failure.signature
    assert fine.failure is None
    desk.say(verdicts={0: (STOP, 3), 1: (STOP, 1)})
    worker.turn()
    assert worker.holds == 0


def test_a_fenced_worker_lets_go_of_everything_and_ends(make_worker):
    worker, desk, _ = make_worker()
    desk.say(order())
    worker.turn()
    desk.next = Answer(2, fenced=True)
    with pytest.raises(FencedError, match="worker w was given up by the study"):
        worker.turn()
    assert worker.holds == 0


def test_out_of_memory_is_told_with_a_farewell_and_ends_the_worker(make_worker):
    worker, desk, _ = make_worker(Hungry)
    desk.say(order(0), order(1))
    worker.turn()
    assert not desk.heard[-1].leaving
    desk.say(order(2), verdicts={0: (STOP, 3), 1: (CONTINUE, 3)})
    with pytest.raises(OutOfMemoryError):
        worker.turn()
    assert desk.heard[-1].leaving
    assert desk.progress[0].failure.cause == "memory"
    assert worker.holds == 0


def test_it_says_who_and_where_it_is_and_the_epoch_that_it_heard_of(make_worker):
    worker, desk, _ = make_worker()
    assert worker.turn() == Answer(1)
    desk.next = Answer(5)
    worker.turn()
    worker.turn()
    assert [(m.worker, m.host, m.epoch) for m in desk.heard] == [("w", "h", 0), ("w", "h", 1), ("w", "h", 5)]


def test_an_export_that_is_refused_is_an_answer(make_worker):
    worker, desk, _ = make_worker()
    desk.say(order(until=1))
    worker.turn()
    worker.turn()
    ref = desk.progress[0].checkpoint
    desk.next = Answer(1, exports=(Export("b", 0, {"x": 1.0}, 7, ref, 0.5),))
    worker.turn()
    worker.turn()
    [result] = desk.heard[-1].exports
    assert (result.bundle, result.uri) == ("b", "")
    assert "Quadratic has no model that could be served" in result.error
    worker.turn()
    assert desk.heard[-1].exports == (), "said once"


def test_a_checkpoint_that_was_changed_fails_the_trial_and_not_the_worker(make_worker):
    worker, desk, _ = make_worker()
    desk.say(order(until=1))
    worker.turn()
    desk.say(verdicts={0: (PAUSE, 1)})
    worker.turn()
    ref = replace(desk.progress[0].checkpoint, sha256="0" * 64)
    desk.say(order(until=3, checkpoint=ref, reported=1))
    worker.turn()
    worker.turn()
    assert "its hash differs" in desk.progress[0].failure.message


@pytest.fixture
def away(monkeypatch):
    """A list of the errors of a storage that is away: each attempt at a checkpoint or a bundle takes one."""
    errors = []
    monkeypatch.setattr("orchestrator.tuning.outage.RETRY_SECONDS", 0.01)

    def failing(usual):
        def act(*given):
            if errors:
                raise errors.pop(0)
            return usual(*given)

        return act

    for owner, name in ((CheckpointStore, "publish"), (CheckpointStore, "fetch"), (Workshop, "_exported")):
        monkeypatch.setattr(owner, name, failing(getattr(owner, name)))
    return errors


def test_a_storage_that_is_away_for_a_while_is_waited_for(make_worker, away):
    worker, desk, _ = make_worker()
    desk.say(order(until=1))
    away += [StorageError("away")] * 3
    worker.turn()
    worker.turn()
    assert (desk.progress[0].checkpoint.step, desk.progress[0].failure) == (1, None)
    desk.say(order(trial=1, until=3, checkpoint=desk.progress[0].checkpoint, reported=1))
    away += [StorageError("away")] * 3
    worker.turn()
    worker.turn()
    assert [(told.failure, told.reports[0][0]) for told in desk.progress if told.trial == 1] == [(None, 2)]


class Unlucky(Quadratic):
    """Fails to save, the first times, in words of its own."""

    failures = 1

    def save(self, directory):
        if self.failures:
            self.failures -= 1
            raise RuntimeError("file write failed")
        super().save(directory)


def test_a_save_that_fails_once_is_done_again_and_one_that_fails_again_is_the_trials(make_worker):
    worker, desk, _ = make_worker(Unlucky)
    desk.say(order(until=1))
    worker.turn()
    worker.turn()
    assert (desk.progress[0].checkpoint.step, desk.progress[0].failure) == (1, None)
    worker, desk, _ = make_worker(type("Hopeless", (Unlucky,), {"failures": 2}))
    desk.say(order(1, until=1))
    worker.turn()
    worker.turn()
    assert desk.progress[0].failure.message == "RuntimeError: file write failed"


def test_a_storage_that_stays_away_ends_the_worker_and_no_trial_is_to_blame(make_worker, away):
    worker, desk, _ = make_worker(timeout="0.4s")
    desk.say(order(0, until=1))
    away += [StorageError("away for long")] * 1000
    worker.turn()
    with pytest.raises(StorageError, match="away for long"):
        worker.turn()
    assert desk.heard[-1].leaving
    assert [(told.failure, told.reports, told.checkpoint) for told in desk.progress] == [(None, (), None)]
    assert worker.holds == 0


def test_a_bundle_that_the_storage_does_not_take_is_no_refusal(make_worker, away):
    worker, desk, _ = make_worker(timeout="0.4s")
    desk.say(order(until=1))
    worker.turn()
    worker.turn()
    desk.next = Answer(1, exports=(Export("b", 0, {"x": 1.0}, 7, desk.progress[0].checkpoint, 0.5),))
    away += [StorageError("away for long")] * 1000
    worker.turn()
    with pytest.raises(StorageError, match="away for long"):
        worker.turn()
    assert (desk.heard[-1].exports, desk.heard[-1].leaving) == ((), True)


def test_a_class_that_is_stepped_for_ever_fails_at_once_and_says_what_to_do(make_worker):
    worker, desk, _ = make_worker(scheduler="none")
    desk.say(order(until=2**31 - 1))
    worker.turn()
    worker.turn()
    assert "give its steps an end" in desk.progress[0].failure.message


def test_letting_go_of_a_trial_ends_its_function(make_worker):
    left = []

    def objective(trial):
        try:
            while True:
                trial.report(loss=1.0)
        finally:
            left.append(trial.last_step)

    worker, desk, _ = make_worker(objective)
    desk.say(order(until=2))
    worker.turn()
    worker.drop()
    assert left == [2], "it leaves where it waits, and takes no further step"


def test_asked_to_leave_it_saves_what_it_holds_says_so_and_ends(make_worker):
    worker, desk, _ = make_worker(tick=FLUSH_SECONDS)  # one step a turn
    desk.say(order(until=9))
    worker.turn()
    desk.say(verdicts={0: (CONTINUE, 9)}, leave=True)
    worker.turn()
    assert desk.progress[0].checkpoint is None, "the first step lies between two milestones"
    desk.say(verdicts={0: (CONTINUE, 9)}, release=True)
    answer = worker.turn()
    [told] = desk.progress
    assert (told.reports, told.checkpoint.step, desk.heard[-1].leaving) == ((), 1, True)
    assert (answer.release, worker.holds) == (True, 0)


def test_one_that_leaves_saves_nothing_twice_and_nothing_that_cannot_be_saved(make_worker):
    worker, desk, _ = make_worker()
    desk.say(order(until=3))
    worker.turn()
    desk.say(verdicts={0: (CONTINUE, 9)}, leave=True)
    worker.turn()
    desk.say(release=True)
    worker.turn()
    assert desk.progress[0].checkpoint is None, "the milestone's checkpoint was told"
    worker, desk, _ = make_worker(Unsaved, tick=FLUSH_SECONDS)
    desk.say(order(until=9))
    worker.turn()
    desk.say(verdicts={0: (CONTINUE, 9)}, leave=True)
    worker.turn()
    desk.say(release=True)
    worker.turn()
    assert (desk.progress[0].checkpoint, desk.progress[0].failure) == (None, None)

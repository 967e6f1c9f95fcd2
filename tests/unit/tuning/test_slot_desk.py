"""What the slots of `execution: tune` hold, as the study knows it."""

from types import SimpleNamespace

import pytest

from orchestrator.domain.errors import StorageError
from orchestrator.domain.exchange import Progress
from orchestrator.domain.specification import StudySpecification
from orchestrator.domain.trials import CheckpointRef, Decision
from orchestrator.study import StudyKeeper
from orchestrator.tuning.native import ORDER, StudyScheduler
from orchestrator.tuning.slot_desk import SlotDesk

STUDY = {
    "study": "bowl",
    "space": {"x": {"min": -2.0, "max": 2.0}},
    "objective": {"metric": "loss"},
    "search": "random",
    "budget": {"trials": 9},
    "failures": {"crashes": 1},
}


@pytest.fixture
def keeper():
    return StudyKeeper.open(StudySpecification.from_dict(STUDY), lambda: 1000.0, storage=None)


class EndedSlot(SimpleNamespace):
    """What Tune keeps of a trial whose process raised."""

    def get_pickled_error(self):
        return self.error


def begun(desk):
    order = desk.order()
    desk.take()
    return order


@pytest.mark.parametrize("error", [StorageError("away for long"), SimpleNamespace(cause=StorageError("away for long"))])
def test_a_slot_that_ended_without_its_storage_is_given_out_again_and_nobody_is_blamed(keeper, error):
    desk = SlotDesk("tune", keeper.exchange, lambda: 2)
    lost, kept = begun(desk), begun(desk)
    StudyScheduler(desk).on_trial_error(None, EndedSlot(config={ORDER: lost}, trial_id="a", error=error))
    assert begun(desk) == lost
    assert [trial.failures for trial in keeper.study.state.trials] == [[], []]
    assert keeper.study.state.held["tune"] == {lost.trial, kept.trial}
    assert desk.errors == []


def test_a_slot_whose_process_died_is_a_crash_of_its_trial(keeper):
    desk = SlotDesk("tune", keeper.exchange, lambda: 1)
    order = begun(desk)
    StudyScheduler(desk).on_trial_error(
        None, EndedSlot(config={ORDER: order}, trial_id="a", error=RuntimeError("gone"))
    )
    assert [failure.cause for failure in keeper.study.state.trials[0].failures] == ["crash"]


def test_a_slot_without_room_returns_its_trial_which_goes_on_first_when_there_is_room_again(keeper):
    room = [2]
    desk = SlotDesk("tune", keeper.exchange, lambda: room[0])
    first, second = begun(desk), begun(desk)
    assert not desk.lacks_room
    room[0] = 1
    assert desk.lacks_room
    saved = CheckpointRef(1, "checkpoints/0/1", "0" * 64, 9)
    reports = ((1, {"loss": 1.0}),)
    assert desk.tell(Progress(first.trial, 0, reports, saved), returned=True) is Decision.CONTINUE
    assert (desk.lacks_room, desk.order()) == (False, None)
    state = keeper.study.state
    assert (state.held["tune"], state.trials[first.trial].checkpoint) == ({second.trial}, saved)
    room[0] = 2
    again = begun(desk)
    assert (again.trial, again.attempt, again.checkpoint) == (first.trial, 0, saved)
    assert state.trials[first.trial].failures == []


def test_a_word_that_the_study_cannot_keep_now_is_no_crash(keeper):
    desk = SlotDesk("tune", keeper.exchange, lambda: 1)
    order, port = begun(desk), desk._port

    def away(message):
        raise StorageError("away for long")

    desk._port = away
    slot = EndedSlot(config={ORDER: order}, trial_id="a", error=RuntimeError("gone"))
    StudyScheduler(desk).on_trial_error(None, slot)
    desk._port = port
    assert begun(desk) == order
    assert keeper.study.state.trials[0].failures == []

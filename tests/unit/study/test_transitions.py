"""The life of a trial: each pair of the table, and none beside it."""

from itertools import product

import pytest

from orchestrator.domain.errors import InvalidTransition
from orchestrator.domain.trials import TrialState
from orchestrator.study.transitions import next_state

RUNNING = TrialState.RUNNING
ALLOWED = {
    (TrialState.WAITING, "started"): RUNNING,
    (TrialState.PAUSED, "started"): RUNNING,
    (TrialState.FAILED, "started"): RUNNING,
    (RUNNING, "reported"): RUNNING,
    (RUNNING, "checkpointed"): RUNNING,
    (RUNNING, "continued"): RUNNING,
    (RUNNING, "paused"): TrialState.PAUSED,
    (RUNNING, "stopped"): TrialState.STOPPED,
    (RUNNING, "finished"): TrialState.COMPLETE,
    (RUNNING, "failed"): TrialState.FAILED,
    (RUNNING, "given up"): TrialState.ABANDONED,
    (RUNNING, "interrupted, checkpoint"): TrialState.PAUSED,
    (RUNNING, "interrupted, none"): TrialState.WAITING,
}
HAPPENINGS = sorted({happened for _, happened in ALLOWED})


@pytest.mark.parametrize(("state", "happened"), list(product(TrialState, HAPPENINGS)))
def test_every_pair_leads_where_the_table_says_or_raises(state, happened):
    if (state, happened) in ALLOWED:
        assert next_state(state, happened, 3) is ALLOWED[state, happened]
    else:
        with pytest.raises(InvalidTransition, match=f"trial 3 is {state}: '{happened}' cannot happen to it"):
            next_state(state, happened, 3)


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.STOPPED, TrialState.ABANDONED])
def test_nothing_happens_to_a_trial_that_is_over(state):
    assert state.is_over
    assert not any(of is state for of, _ in ALLOWED)

"""Seeds, objectives and records."""

import math

from orchestrator.domain.seeds import derive_seed, generator
from orchestrator.domain.trials import CheckpointRef, Failure, Objective, TrialState


def test_seeds_are_the_same_on_every_machine_and_differ_by_trial_and_purpose():
    assert derive_seed(1, 2, "suggest") == 44355220
    assert generator(1, 2, "suggest").random() == generator(1, 2, "suggest").random()
    seeds = {derive_seed(s, t, p) for s in range(10) for t in range(10) for p in ("suggest", "train")}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_an_objective_is_minimised_as_a_loss_and_nothing_infinite_is_better():
    accuracy = Objective("accuracy", maximize=True)
    assert accuracy.loss(0.9) == -0.9
    assert accuracy.loss(math.nan) == accuracy.loss(math.inf) == math.inf
    assert accuracy.is_better(0.9, None)
    assert accuracy.is_better(0.91, 0.9)
    assert not accuracy.is_better(0.91, 0.9, margin=0.02)
    assert not accuracy.is_better(math.inf, None)
    assert Objective("loss").is_better(0.1, 0.2)


def test_records_survive_their_written_form():
    checkpoint = CheckpointRef(3, "/runs/x", "ab" * 32, 10)
    failure = Failure("error", "no", "Traceback", "ValueError@train.py:3")
    assert CheckpointRef.from_dict(checkpoint.to_dict()) == checkpoint
    assert Failure.from_dict(failure.to_dict()) == failure


def test_a_failed_trial_is_not_over_until_it_is_abandoned():
    assert {state for state in TrialState if state.is_over} == {
        TrialState.COMPLETE,
        TrialState.STOPPED,
        TrialState.ABANDONED,
    }

"""A study file: what is accepted, what is refused and in which words."""

import math

import pytest

from orchestrator.domain.errors import InvalidInput, InvalidSpecification
from orchestrator.domain.specification import (
    UNBOUNDED,
    SchedulerSpecification,
    StudySpecification,
    parse_seconds,
)

STUDY = {"study": "digits", "space": {"lr": {"min": 1e-4, "max": 1e-1, "log": True}}, "objective": {"metric": "loss"}}
FULL = STUDY | {
    "data": {"source": "sklearn:digits", "test": 0.25},
    "trainable": "trainables.torch.mlp",
    "objective": {"metric": "val_accuracy", "goal": "maximize"},
    "search": {"engine": "tpe"},
    "scheduler": {"kind": "asha", "min": 1, "max": 27, "eta": 3},
    "budget": {"trials": 100, "time": "10m"},
    "execution": "pooled",
    "resources": {"cpu": 1, "gpu": 0.25, "concurrent": 8},
    "failures": {"crashes": 1},
    "serve": {"name": "digits", "replicas": {"min": 2, "max": 8}, "promote": {"margin": 0.002}},
    "timeout": "90s",
    "seed": 7,
    "storage": "/tmp/runs",
}


@pytest.mark.parametrize("given", [STUDY, FULL], ids=["short", "full"])
def test_what_is_written_back_is_the_same_study_with_every_default_filled_in(given):
    specification = StudySpecification.from_dict(given)
    whole = specification.to_dict()
    assert StudySpecification.from_dict(whole) == specification
    assert StudySpecification.from_dict(whole).to_dict() == whole
    assert set(whole) >= set(given)


def test_a_full_study_file_is_understood():
    specification = StudySpecification.from_dict(FULL)
    assert specification.objective.maximize
    assert specification.budget.seconds == 600
    assert specification.timeout_seconds == 90
    assert specification.scheduler == SchedulerSpecification("asha", 1, 27, 3)
    assert (specification.serve.name, specification.serve.replicas, specification.serve.margin) == ("digits", 2, 0.002)


def test_short_forms_are_understood():
    specification = StudySpecification.from_dict(
        STUDY | {"search": "random", "scheduler": "asha", "data": "sklearn:digits", "serve": True}
    )
    assert specification.engine == "random"
    assert specification.scheduler == SchedulerSpecification("asha", 1, 27, 3)
    assert specification.data.source == "sklearn:digits"
    assert specification.serve.name == "digits"


def test_without_a_scheduler_every_trial_runs_to_its_own_end():
    assert StudySpecification.from_dict(STUDY).scheduler == SchedulerSpecification("none", 1, UNBOUNDED)
    assert SchedulerSpecification() == SchedulerSpecification.from_dict(None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sede": 3}, "study file: unknown key 'sede'. Did you mean 'seed'?"),
        ({"budget": {"trails": 3}}, "budget: unknown key 'trails'. Did you mean 'trials'?"),
        (
            {"search": {"engine": "tpee"}},
            "search.engine: given 'tpee'; it is one of auto, random, grid, sobol, tpe. Did you mean 'tpe'?",
        ),
        (
            {"scheduler": {"kind": "ahsa"}},
            "scheduler.kind: given 'ahsa'; it is one of asha, none. Did you mean 'asha'?",
        ),
        ({"scheduler": {"min": 9, "max": 3}}, "min 9 is above max 3"),
        ({"scheduler": {"eta": 1}}, "scheduler.eta: given 1; it takes a whole number of at least 2"),
        (
            {"execution": "pool"},
            "execution: given 'pool'; it is one of auto, tune, pooled, inline. Did you mean 'pooled'?",
        ),
        (
            {"objective": {"metric": "loss", "goal": "max"}},
            "objective.goal: given 'max'; it is one of minimize, maximize",
        ),
        ({"objective": {}}, "objective.metric: given None; it takes the name of a metric that the trainable reports"),
        ({"objective": "loss"}, "objective: given 'loss'; it takes {metric, goal}"),
        (
            {"study": "../evil"},
            "study: given '../evil'; it takes up to 64 letters, digits, dots, dashes and underscores",
        ),
        ({"budget": {"trials": 0}}, "budget.trials: given 0; it takes a whole number of at least 1"),
        ({"budget": {"trials": 2.5}}, "budget.trials: given 2.5; it takes a whole number"),
        ({"budget": {"trials": True}}, "budget.trials: given True"),
        ({"budget": {"time": "soon"}}, "budget.time: given 'soon'; it takes a time above 0, such as 90, \"90s\""),
        ({"resources": {"cpu": math.nan}}, "resources.cpu: given nan"),
        ({"resources": {"cpu": math.inf}}, "resources.cpu: given inf"),
        (
            {"serve": {"rollout": {"steps": [0.25, 0.05]}}},
            "serve.rollout.steps: given [0.25, 0.05]; it takes a list of shares of the requests, rising",
        ),
        (
            {"serve": {"rollout": {"kind": "shadow", "steps": [0.5]}}},
            "serve.rollout.steps: given [0.5]; kind canary takes a list",
        ),
        (
            {"serve": {"rollout": {"steps": [1.0]}}},
            "serve.rollout.steps: given [1.0]; it takes a list",
        ),
        (
            {"serve": {"port": 70000}},
            "serve.port: given 70000; it takes a whole number of at least 1 and at most 65535",
        ),
        ({"data": {"test": 0.2}}, "data.source: given None; it takes text, such as sklearn:digits or module:function"),
        ({"data": {"source": "x", "test": 0.6, "validation": 0.5}}, "together must leave rows to train on"),
        ({"space": {"lr": {"min": 1, "max": 0}}}, "is inverted"),
        ({"seed": -1}, "seed: given -1"),
    ],
)
def test_a_mistake_is_named_before_it_costs_a_trial(change, message):
    with pytest.raises(InvalidInput) as caught:
        StudySpecification.from_dict(STUDY | change)
    assert message in str(caught.value)


@pytest.mark.parametrize("key", ["study", "space", "objective"])
def test_what_a_study_cannot_do_without_is_named(key):
    with pytest.raises(InvalidSpecification, match=f"'{key}' is missing"):
        StudySpecification.from_dict({k: v for k, v in STUDY.items() if k != key})


def test_numbers_that_yaml_read_as_text_are_numbers():
    specification = StudySpecification.from_dict(STUDY | {"budget": {"trials": "64"}, "resources": {"cpu": "5e-1"}})
    assert (specification.budget.trials, specification.resources.cpu) == (64, 0.5)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [(90, 90.0), ("90", 90.0), ("90s", 90.0), ("10m", 600.0), ("1.5h", 5400.0), (" 2 d ", 172800.0), ("500ms", 0.5)],
)
def test_times_are_understood(given, seconds):
    assert parse_seconds("budget.time", given) == seconds


@pytest.mark.parametrize("given", [0, -1, "0s", "", "10 minutes", "1.2.3", True, None, [], math.inf, math.nan])
def test_what_is_no_time_is_refused(given):
    with pytest.raises(InvalidSpecification, match=r"budget.time: given .*such as 90"):
        parse_seconds("budget.time", given)

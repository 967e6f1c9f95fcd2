"""How many replicas a load needs."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.scaling import BUSY, MOST_BUSY, RATE, Scale, ScalingPolicy, wanted_replicas
from orchestrator.domain.errors import EndpointError

SCALE = Scale(1, 6, ongoing=8)
PROMPT = Scale(1, 6, ongoing=8, latency_seconds=0.05)


@pytest.mark.parametrize(
    ("scale", "running", "ongoing", "rate", "expected"),
    [
        (SCALE, 1, 0, 0, 1),
        (SCALE, 1, 8, 100, 1),
        (SCALE, 1, 9, 100, 2),
        (SCALE, 1, 30, 100, 4),
        (SCALE, 1, 900, 100, 6),
        (SCALE, 6, 8, 100, 1),
        (PROMPT, 1, 4, 100, 1),  # 40 ms
        (PROMPT, 1, 4, 50, 2),  # 80 ms
        (PROMPT, 2, 4, 10, 4),  # 400 ms: twice as many at most
        (PROMPT, 2, 4, 0, 1),  # nothing was answered yet
    ],
)
def test_replicas_follow_requests_at_once_and_latency(scale, running, ongoing, rate, expected):
    assert wanted_replicas(scale, running=running, ongoing=ongoing, rate=rate) == expected


@given(st.integers(1, 6), st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1e3))
def test_more_load_never_needs_fewer_and_the_bounds_hold(running, ongoing, more, rate):
    wanted = wanted_replicas(PROMPT, running=running, ongoing=ongoing, rate=rate)
    assert 1 <= wanted <= 6
    assert wanted <= wanted_replicas(PROMPT, running=running, ongoing=ongoing + more, rate=rate)


def test_the_policy_reads_what_the_controller_tells():
    policy = ScalingPolicy(1, 6, 8.0, 0.05)
    told = SimpleNamespace(
        aggregated_metrics={RATE: {"a": 20.0, "b": 30.0}}, current_num_replicas=2, total_num_requests=4.0
    )
    assert policy(told) == (4, {})
    told = SimpleNamespace(aggregated_metrics=None, current_num_replicas=0, total_num_requests=0.0)
    assert policy(told) == (1, {})


@pytest.mark.parametrize(
    ("running", "share", "expected"), [(1, 0.5, 1), (1, 0.95, 2), (2, 0.5, 2), (2, 0.3, 1), (3, 0.8, 4)]
)
def test_small_requests_that_are_never_there_at_once_count_by_what_they_compute(running, share, expected):
    told = SimpleNamespace(
        aggregated_metrics={RATE: {"a": 5000.0}, BUSY: {str(number): share for number in range(running)}},
        current_num_replicas=running,
        total_num_requests=0.0,
    )
    assert ScalingPolicy(1, 6, 8.0, None)(told) == (expected, {})
    assert wanted_replicas(SCALE, running=running, ongoing=0, rate=0, busy=running * MOST_BUSY) == running


def test_bounds_that_make_no_sense_are_refused():
    for wrong in ((0, 1), (2, 1), (1, 1, -1.0)):
        with pytest.raises(EndpointError, match="1 replica or more"):
            Scale(*wrong)

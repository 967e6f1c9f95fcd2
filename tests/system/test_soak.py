"""Two minutes of `make soak`: too short for a slope, long enough for a leak with each request or each change."""

from pathlib import Path

import pytest
from soak import Course, Sample, soak

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]

SECONDS = 120.0
MOST_MB = 8.0  # from the second quarter to the last; caches and pools fill in the first one, and a little after it
MB = 1024 * 1024


@pytest.mark.usefixtures("ray_session")
def test_no_process_grows_with_requests_and_changes(tmp_path: Path) -> None:
    for course in soak(tmp_path, SECONDS):
        assert course.last_mb - course.first_mb < MOST_MB, course
        assert course.faults(most_mb_an_hour=float("inf")) == []


def test_a_leak_is_a_fault_and_noise_is_none() -> None:
    def course(an_hour: float) -> Course:
        noise = [(-1) ** number * 0.5 * MB for number in range(200)]
        memory = [int(100 * MB + an_hour * MB * number / 900 + noise[number]) for number in range(200)]
        return Course.of("replica 1", [Sample(4.0 * number, memory[number], 40, 20) for number in range(200)])

    assert course(0.0).faults(25.0) == []
    assert course(24.0).faults(25.0) == []
    assert course(60.0).slope == pytest.approx(60.0, abs=1.0)
    (fault,) = course(60.0).faults(25.0)
    assert "MB an hour, over 25" in fault

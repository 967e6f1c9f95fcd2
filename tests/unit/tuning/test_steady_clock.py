"""A writer's clock: differences are those of time that passed, whatever happens to the wall clock."""

from types import SimpleNamespace

from orchestrator.tuning.steady_clock import SteadyClock


def test_it_begins_with_the_wall_clock_and_goes_on_by_itself():
    now = SimpleNamespace(wall=1_000_000.0, elapsed=50.0)
    clock = SteadyClock(lambda: now.wall, lambda: now.elapsed)
    assert clock() == 1_000_000.0
    now.wall -= 3600
    now.elapsed += 7
    assert clock() == 1_000_007.0

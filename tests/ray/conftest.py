"""What holds after every test of the Ray rooms."""

from collections.abc import Iterator

import pytest
from ray.util import placement_group_table
from studies import wait_for


@pytest.fixture(autouse=True)
def no_room_stays_held(ray_session: str) -> Iterator[None]:
    """A study that leaves a slot's room behind takes CPUs from whatever comes next."""
    yield
    wait_for(
        lambda: all(entry["state"] == "REMOVED" for entry in placement_group_table().values()), "all slots' room back"
    )

"""The room that a study's slots hold in the cluster: Ray placement groups, by name, so that none outlives its study.

Ray gives a runner's placement groups back when the runner dies, but not one that it was just asking for: that request
arrives after the death, is granted, and holds its CPUs until the cluster ends.
"""

import secrets
from contextlib import suppress

from ray.util.placement_group import get_placement_group, placement_group_table, remove_placement_group

from orchestrator.journal import AnyStorage
from orchestrator.process_graph.names import runner_name


def placement_name(storage: AnyStorage, study: str) -> str:
    """Returns a new name for the room of one slot of the study."""
    return f"{runner_name(storage, study)}:{secrets.token_hex(6)}"


def give_back_placements(storage: AnyStorage, study: str) -> int:
    """Gives back all room that slots of the study hold; for when none runs. Returns how many held some."""
    prefix = f"{runner_name(storage, study)}:"
    held = [
        entry["name"]
        for entry in placement_group_table().values()
        if entry["name"].startswith(prefix) and entry["state"] != "REMOVED"
    ]
    for name in held:
        with suppress(ValueError):  # it went meanwhile
            remove_placement_group(get_placement_group(name))
    return len(held)

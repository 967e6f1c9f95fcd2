"""Whether a study file describes the study whose journal lies under its name, and what to say where it does not.

A study is what it was created as; budgets and resources may change between its lives, and `extend` gives it a wider
space. A file from before that still describes it, and takes nothing back.
"""

import time
from collections.abc import Sequence

from orchestrator.domain.errors import InvalidSpace
from orchestrator.domain.specification import Budget, StudySpecification
from orchestrator.domain.widening import check_wider
from orchestrator.study.state import StudyState

IDENTITY = ("trainable", "space", "objective", "data", "scheduler", "search", "seed")
"""What makes a study that one and no other."""


def differences(state: StudyState, asked: StudySpecification) -> list[str]:
    """Returns the sections in which what is asked for is another study than this one."""
    assert state.created is not None
    created, given = state.created.specification, asked.to_dict()
    return [key for key in IDENTITY if key != "space" and _is_other(key, created.get(key), given.get(key))] + (
        [] if any(held.space == asked.space for held in state.spaces) else ["space"]
    )


def _is_other(key: str, created: object, given: object) -> bool:
    if key == "trainable" and not (created and given):
        return False  # a study whose caller evaluates the trials has no code of its own
    return created != given


def what_to_do(state: StudyState, asked: StudySpecification, differing: Sequence[str]) -> str:
    """Returns the second half of the message about `differences`."""
    anew = "give the new study another name, or begin it anew with --fresh"
    if list(differing) != ["space"]:
        return anew
    try:
        check_wider(state.specification.space, asked.space)
    except InvalidSpace:
        return anew
    return f"widen it with `orchestrator extend {asked.study} --space FILE`, or {anew}"


def current(state: StudyState, asked: StudySpecification) -> tuple[StudySpecification, str]:
    """Returns what is asked for with what `extend` gave the study since; and that in a sentence, or nothing."""
    budget, space = state.extended_to, state.specification.space
    found, said = asked, []
    if budget is not None and asked.budget == Budget():  # who names none takes what there is
        found = found.with_changes(budget=budget)
    elif budget is not None and budget != asked.budget and not asked.budget.is_larger(budget):
        found = found.with_changes(budget=budget)
        said.append(f"it may spend {budget}, not {asked.budget}")
    if space != asked.space and any(held.space == asked.space for held in state.spaces):
        found = found.with_changes(space=space)
        last = state.spaces[-1]
        day = time.strftime("%Y-%m-%d %H:%M", time.gmtime(last.at))
        said.append(f"its space is the wider one that it has from trial {last.first_trial} on (since {day} UTC)")
    return found, f"study '{asked.study}' was extended: {'; '.join(said)}" if said else ""

"""The life of a trial as a table: (state, what happened) → next state. A pair that is missing raises.

WAITING ──started──▶ RUNNING ──paused──▶ PAUSED ──started──▶ RUNNING
                        │  ├──finished──▶ COMPLETE
                        │  ├──stopped───▶ STOPPED
                        │  ├──failed────▶ FAILED ──started──▶ RUNNING   (another attempt)
                        │  ├──given up──▶ ABANDONED
                        │  └──interrupted▶ PAUSED (it has a checkpoint) or WAITING (it starts again)
"""

from orchestrator.domain.errors import InvalidTransition
from orchestrator.domain.trials import TrialState

_TABLE = {
    (TrialState.WAITING, "started"): TrialState.RUNNING,
    (TrialState.PAUSED, "started"): TrialState.RUNNING,
    (TrialState.FAILED, "started"): TrialState.RUNNING,
    (TrialState.RUNNING, "reported"): TrialState.RUNNING,
    (TrialState.RUNNING, "checkpointed"): TrialState.RUNNING,
    (TrialState.RUNNING, "continued"): TrialState.RUNNING,
    (TrialState.RUNNING, "paused"): TrialState.PAUSED,
    (TrialState.RUNNING, "stopped"): TrialState.STOPPED,
    (TrialState.RUNNING, "finished"): TrialState.COMPLETE,
    (TrialState.RUNNING, "failed"): TrialState.FAILED,
    (TrialState.RUNNING, "given up"): TrialState.ABANDONED,
    (TrialState.RUNNING, "interrupted, checkpoint"): TrialState.PAUSED,
    (TrialState.RUNNING, "interrupted, none"): TrialState.WAITING,
}


def next_state(state: TrialState, happened: str, trial: int) -> TrialState:
    """Returns the state after what happened.

    Raises:
        InvalidTransition: nothing of the kind can happen to a trial in that state.
    """
    try:
        return _TABLE[state, happened]
    except KeyError:
        raise InvalidTransition(f"trial {trial} is {state}: '{happened}' cannot happen to it") from None

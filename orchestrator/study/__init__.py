"""The study: events in, effects out.

`Study` decides, `StudyState` is the fold over the events, `StudyKeeper` writes them down, `read_study` replays them for
those who only look. `status` and its neighbours turn the state into plain data.
"""

from orchestrator.study.bundles import BundleState
from orchestrator.study.keeper import StudyKeeper
from orchestrator.study.layout import Layout, studies_on
from orchestrator.study.rebuilding import new_study, read_study, rebuild, replay, snapshot_breaches
from orchestrator.study.state import Phase, StudyState
from orchestrator.study.status import first_failure, savings, status, trial_details, trial_summary
from orchestrator.study.study import Study
from orchestrator.study.trial import Trial

__all__ = [
    "BundleState",
    "Layout",
    "Phase",
    "Study",
    "StudyKeeper",
    "StudyState",
    "Trial",
    "first_failure",
    "new_study",
    "read_study",
    "rebuild",
    "replay",
    "savings",
    "snapshot_breaches",
    "status",
    "studies_on",
    "trial_details",
    "trial_summary",
]

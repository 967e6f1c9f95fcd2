"""From a dataset and a search space to a live endpoint that keeps getting better.

    from orchestrator import Float, Study

    def objective(trial):
        return (trial.params["x"] - 3) ** 2

    study = Study("parabola", objective, {"x": Float(-10, 10)}, minimize="loss", execution="inline")
    study.run(trials=50)
    print(study.best_params)

The rooms: `domain` has the words, `search` and `schedulers` the policies, `journal` the records, `study` the state
machine, `tuning` the workers, `process_graph` joins them with `deploy`; `api` and `cli` are the entrances.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.api.connecting import connect
    from orchestrator.api.study import Study
    from orchestrator.domain.errors import OrchestratorError
    from orchestrator.domain.space import Choice, Float, Int, Space

__all__ = ["Choice", "Float", "Int", "OrchestratorError", "Space", "Study", "connect"]

_HOMES = {
    "Choice": "orchestrator.domain.space",
    "Float": "orchestrator.domain.space",
    "Int": "orchestrator.domain.space",
    "OrchestratorError": "orchestrator.domain.errors",
    "Space": "orchestrator.domain.space",
    "Study": "orchestrator.api.study",
    "connect": "orchestrator.api.connecting",
}


def __getattr__(name: str) -> Any:
    """Returns a name of the façade, its module loaded now."""
    if name not in _HOMES:
        raise AttributeError(f"module 'orchestrator' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)

"""`connect`: the study that runs in the cluster, from any other job of that cluster."""

from collections.abc import Mapping
from typing import Any

from orchestrator.domain.errors import UnknownStudy
from orchestrator.domain.space import Configuration, Parameter, Space


class ConnectedStudy:
    """A study that runs, seen from another process. It goes on when this process ends.

    Everything here is one call to the study's actor: some milliseconds.
    """

    def __init__(self, name: str, actor: Any) -> None:
        self.name = name
        self._actor = actor

    @property
    def status(self) -> Mapping[str, Any]:
        """Where the study stands: phase, trials by state, rungs, best, champion; as `orchestrator status --json`."""
        status: Mapping[str, Any] = self._ask("status")
        return status

    @property
    def best_params(self) -> dict[str, Any]:
        """The best configuration so far.

        Raises:
            UnknownStudy: there is none yet.
        """
        return dict(self._best()["params"])

    @property
    def best_value(self) -> float:
        """The objective's best value so far; raises as `best_params` does."""
        return float(self._best()["value"])

    def enqueue(self, params: Configuration) -> None:
        """Has the study try a configuration next, before those of its search.

        Raises:
            InvalidInput: it is not in the study's space.
        """
        self._ask("enqueue", dict(params))

    def extend(
        self,
        trials: int | None = None,
        timeout: float | None = None,
        space: Mapping[str, Parameter] | Space | None = None,
    ) -> None:
        """Gives the study more trials in all, more seconds in all, or a space that holds all of the one it has.

        Raises:
            InvalidInput: it would not be more.
        """
        given = space if isinstance(space, Space | None) else Space(space)
        self._ask("extend", trials, timeout, None if given is None else given.to_dict())

    def stop(self, reason: str = "stopped") -> None:
        """Ends the study: no trial is begun any more, and what it found stays."""
        self._ask("stop", reason)

    def _best(self) -> Mapping[str, Any]:
        best = self.status["best"]
        if best is None:
            raise UnknownStudy(f"study '{self.name}' has no trial with a value yet; ask again a little later")
        found: Mapping[str, Any] = best
        return found

    def _ask(self, method: str, *given: Any) -> Any:
        from orchestrator.process_graph.launch import ask

        return ask(getattr(self._actor, method).remote(*given))


def connect(study: str, *, address: str = "auto") -> ConnectedStudy:
    """Returns the study of that name that runs in the cluster.

    Args:
        study: its name.
        address: of the Ray cluster; in a job of the cluster it is known.

    Raises:
        UnknownStudy: none of that name runs there; those that do are named.
        ClusterError: no cluster answers.
    """
    from orchestrator.process_graph.launch import running_studies
    from orchestrator.process_graph.session import connect as connect_to_ray

    connect_to_ray(address)
    running = running_studies()
    if study not in running:
        there = f"running: {', '.join(sorted(running))}" if running else "none runs there"
        raise UnknownStudy(f"no study '{study}' runs in the cluster; {there}")
    return ConnectedStudy(study, running[study])

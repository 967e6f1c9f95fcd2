"""`Study`: one optimisation, from Python.

A study with a name lies on its storage and goes on where it was when it is made again; one without a name lives in
memory. `run` evaluates the objective, on Ray or in the process at hand; `ask` and `tell` leave that to the caller.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.api.asking import AskedTrial, Desk
from orchestrator.domain.errors import InvalidSpecification, UnknownStudy
from orchestrator.domain.space import Parameter, Space, Value
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import Storage
from orchestrator.study import Layout, StudyKeeper, StudyState, Trial, read_study
from orchestrator.study.identity import current
from orchestrator.tuning.steady_clock import SteadyClock

UNNAMED = "unnamed"
ENDLESS = 2**31 - 1  # trials, where the caller decides when to stop asking


class Study:
    """One optimisation. For one thread.

    Args:
        name: of the study on its storage; without one the study lives in memory, for ask and tell.
        objective: a function of one trial, a trainable class, or a reference to one (`package.module.Class`).
        space: the parameters by name.
        minimize: the metric of which less is better; or
        maximize: the one of which more is better.
        search: "auto", "tpe", "random", "sobol", "grid", or a mapping such as {"engine": "grid", "points": 5}.
        scheduler: "none", "asha", or a mapping such as {"kind": "asha", "max": 27}.
        storage: a directory, or an address such as `s3://BUCKET/PREFIX`.
        seed: of everything random.
        execution: "auto", "pooled", "tune" (one Tune slot per trial) or "inline" (no Ray at all).
        sections: further sections of a study file: data, resources, failures, serve, timeout.

    Raises:
        InvalidInput: with what was given, what is allowed, and what to do.

    Example:
        >>> study = Study(space={"x": Float(0, 1)}, minimize="loss", search="random", seed=1)
        >>> trial = study.ask()
        >>> study.tell(trial, 0.3)
        >>> study.best_value
        0.3
    """

    def __init__(
        self,
        name: str | None = None,
        objective: Callable[[Any], Any] | type | str | None = None,
        space: Mapping[str, Parameter] | Space | None = None,
        *,
        minimize: str | None = None,
        maximize: str | None = None,
        search: str | Mapping[str, Any] = "auto",
        scheduler: str | Mapping[str, Any] | None = None,
        storage: str | Path = "./runs",
        seed: int = 0,
        execution: str = "auto",
        **sections: Any,
    ) -> None:
        if (minimize is None) == (maximize is None):
            raise InvalidSpecification("give either minimize= or maximize=, the name of the metric")
        self.name = name
        self._objective = objective
        self._specification = StudySpecification.from_dict(
            {
                "study": name or UNNAMED,
                "trainable": objective if isinstance(objective, str) else "",
                "space": {},
                "objective": {"metric": minimize or maximize, "goal": "minimize" if minimize else "maximize"},
                "search": search,
                "scheduler": scheduler,
                "storage": str(storage),
                "seed": seed,
                "execution": execution,
                **sections,
            }
        ).with_changes(space=space if isinstance(space, Space) else Space(space or {}))
        self._desk: Desk | None = None

    # --- running -----------------------------------------------------------------------------------------------

    def run(self, trials: int | None = None, timeout: float | None = None, *, address: str | None = None) -> "Study":
        """Evaluates the objective until the budget is reached, and returns the study; goes on where it was before.

        Args:
            trials: how many trials the study has in all; 100 where neither limit is given.
            timeout: seconds, over all its lives.
            address: of a running Ray cluster; without one, Ray is started on this machine and ended afterwards.

        Raises:
            TrialsFailed: the first trials all failed alike; the user's traceback is in the message.
        """
        from orchestrator.api.driving import drive
        from orchestrator.api.failing import raise_if_failing
        from orchestrator.api.progress import line_for_people
        from orchestrator.tuning.code import Code, check_end

        if self._objective is None or self.name is None:
            raise InvalidSpecification("run needs a name and an objective; a study without them is for ask and tell")
        self.close()
        code = Code.named(self._objective) if isinstance(self._objective, str) else Code.of(self._objective)
        budget = type(self._specification.budget)(trials, timeout)
        specification = self._specification.with_changes(budget=budget, trainable=code.reference)
        specification = self._with_what_was_given(specification)
        check_end(specification, code.resolve())
        inline = specification.execution == "inline"
        try:
            outcome = drive(specification, code, line_for_people(), address=address)
        finally:
            if not inline and address is None and specification.serve is None:
                self._end_session()
        raise_if_failing(outcome)
        return self

    def _with_what_was_given(self, specification: StudySpecification) -> StudySpecification:
        """Returns what is asked for with what `extend` gave the study since, and warns where that differs."""
        storage = Storage.of(specification.storage)
        if not Layout(storage, specification.study).exists():
            return specification
        found, word = current(read_study(storage, specification.study).state, specification)
        if word:
            warnings.warn(word, stacklevel=3)
        return found

    def _end_session(self) -> None:
        from orchestrator.process_graph.session import end_session

        end_session(Storage.of(self._specification.storage))

    def ask(self) -> AskedTrial:
        """Returns a new trial to evaluate; any number of them may be open at once."""
        return self._open_desk().ask()

    def tell(self, trial: AskedTrial, values: float | Mapping[str, float] | None = None, *, error: str = "") -> None:
        """Takes a trial's result: a number, or metrics by name; or, with `error`, that it failed.

        Raises:
            InvalidInput: the trial is not open, or the objective's metric is missing.
        """
        self._open_desk().tell(trial, values, error)

    def enqueue(self, params: Mapping[str, Value]) -> None:
        """Adds a configuration of the caller's own; it is given out before the search's."""
        self._open_desk().keeper.enqueue(params)

    def extend(
        self,
        trials: int | None = None,
        timeout: float | None = None,
        space: Mapping[str, Parameter] | Space | None = None,
    ) -> "Study":
        """Gives the study more, whether it runs (here or in another process) or has ended, and returns it.

        One that runs goes on with it at once; one that has ended, when `run` or `ask` is called again. What is None
        stays as it is.

        Args:
            trials: how many in all, more than before.
            timeout: seconds in all, more than before.
            space: one that holds every configuration of the one before; a parameter that is new says with `default`
                which value the trials before it had.

        Raises:
            InvalidInput: it would not be more; with what is missing.
        """
        from orchestrator.api.extending import extend_study

        wider = space if isinstance(space, Space | None) else Space(space)
        if trials is None and timeout is None and wider is None:
            raise InvalidSpecification("extend takes trials, timeout or space: what the study may have more of")
        if self._desk is not None or self.name is None:
            self._open_desk().keeper.extend(trials=trials, seconds=timeout, space=wider)
        else:
            storage = Storage.of(self._specification.storage)
            if not Layout(storage, self.name).exists():
                raise UnknownStudy(f"study '{self.name}' has not begun; run it with what it is to have")
            extend_study(storage, self.name, trials=trials, seconds=timeout, space=wider)
        if wider is not None:
            self._specification = self._specification.with_changes(space=wider)
        return self

    def close(self) -> None:
        """Gives the journal up, so that others may write it."""
        if self._desk is not None:
            self._desk.keeper.close()
            self._desk = None

    def _open_desk(self) -> Desk:
        if self._desk is None:
            storage = None if self.name is None else Storage.of(self._specification.storage)
            budget = type(self._specification.budget)(ENDLESS, None)
            # the caller sees what fails, and decides how long to go on
            failures = replace(self._specification.failures, alike=ENDLESS)
            specification = self._specification.with_changes(budget=budget, serve=None, failures=failures)
            self._desk = Desk(StudyKeeper.open(specification, SteadyClock(), storage=storage))
        return self._desk

    # --- looking -----------------------------------------------------------------------------------------------

    @property
    def trials(self) -> Sequence[Trial]:
        """All trials, in the order of their numbers."""
        return tuple(self._state().trials)

    @property
    def best_trial(self) -> Trial:
        """The trial with the best value.

        Raises:
            UnknownStudy: no trial has a value yet.
        """
        best = self._state().best
        if best is None:
            raise UnknownStudy("no trial has a value yet; run the study, or tell it a result")
        return best

    @property
    def best_params(self) -> dict[str, Value]:
        """The best trial's configuration."""
        return dict(self.best_trial.params)

    @property
    def best_value(self) -> float:
        """The best trial's value."""
        value = self.best_trial.value
        assert value is not None
        return value

    def trials_dataframe(self) -> Any:
        """Returns a pandas table: one row a trial, its parameters as `params_…` columns."""
        import pandas

        return pandas.DataFrame(
            [
                {"number": t.number, "state": str(t.state), "value": t.value, "step": t.last_step, "origin": t.origin}
                | {f"params_{name}": value for name, value in t.params.items()}
                for t in self._state().trials
            ]
        )

    def _state(self) -> StudyState:
        if self._desk is not None:
            return self._desk.keeper.study.state
        storage = Storage.of(self._specification.storage)
        if self.name is None or not Layout(storage, self.name).exists():
            return self._open_desk().keeper.study.state
        return read_study(storage, self.name).state

"""Bayesian search: Optuna's multivariate TPE behind the port (Bergstra et al. 2011; Falkner et al. 2018, BOHB).

TPE splits what was seen into the good ones ("below": the best tenth, 25 at most) and the others ("above"), and proposes
the candidate with the highest ratio of their two densities. What Optuna 5 does with a trial depends on its state
(`samplers/_tpe/sampler.py`, `_split_trials`), and so each of ours is shown to it as follows:

- observed: PRUNED with its last value at its last resource. Pruned trials are ranked by resource first, the highest
  before the others, and by value within one resource: a value from rung 1 is never compared with one from rung 27, and
  those that successive halving let through come first. (COMPLETE ones would be ranked by value alone, before all pruned
  ones; at the highest resource that is the same order, so no trial has to change its state when a new rung opens.)
  That holds for a trial that still runs, too: what it showed is knowledge, not a guess.
- pending and not yet observed: RUNNING, which `constant_liar` puts into "above", so that parallel workers keep apart.
- failed, or +inf at its last level: RUNNING as well, always in "above" and not counted when the good ones are
  counted: a trial that diverged late must not outrank those that were compared earlier.

Conditional spaces: the parameters that share a condition are sampled together, parents first, from the trials in
which they were active. This is what Optuna's `group=True` arrives at by looking through all trials each time.
"""

from bisect import bisect_left, insort
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from orchestrator.domain.ranking import Ranking
from orchestrator.domain.seeds import derive_seed
from orchestrator.domain.space import Configuration, Space, Value
from orchestrator.search.codes import Code, code_of, parameters_by_condition
from orchestrator.search.random import RandomSearch

STARTUP_TRIALS = 10  # observed before the model is used; Optuna's own default
GOOD_AT_MOST = 25  # trials in "below": Optuna's default_gamma
HISTORY = 1000  # trials shown to the model: the best 25 and the latest; bounds a suggestion's time


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is known of one trial."""

    configuration: Configuration
    pending: bool = True
    failed: bool = False
    resource: int = 0  # the last one observed; 0: none
    loss: float = float("inf")

    @property
    def is_observed(self) -> bool:
        """Whether it can be ranked."""
        return not self.failed and self.resource > 0 and self.loss < float("inf")

    @property
    def is_known(self) -> bool:
        """Whether there is anything to show: nothing is known of one that ended before it was observed."""
        return self.is_observed or self.pending or self.failed or self.resource > 0

    def rank(self, trial: int) -> tuple[int, float, int]:
        """The order in which the model prefers trials."""
        return (-self.resource, self.loss, trial)


class TpeSearch:
    """The suggester; keeps the port's contract. One writer: the study that owns it."""

    def __init__(self, space: Space, seed: int) -> None:
        self._seed = seed
        self._random = RandomSearch(space, seed)
        self._open(space)
        self._seen: dict[int, _Seen] = {}
        self._known: list[int] = []  # the trials of which the model may be told, by number
        self._ranking = Ranking()  # of the observed ones
        self._frozen: dict[int, FrozenTrial] = {}  # of those that the model was shown last

    def _open(self, space: Space) -> None:
        self._space = space
        self._codes = {name: code_of(parameter) for name, parameter in space.parameters.items()}
        self._distributions = {name: _distribution(code) for name, code in self._codes.items() if not code.is_constant}
        self._groups = parameters_by_condition(space)

    def suggest(self, trial: int) -> dict[str, Value]:
        """Returns the model's proposal, a random one for the first ten. O(trials), bounded: see HISTORY."""
        if len(self._ranking) < STARTUP_TRIALS:
            return self._random.suggest(trial)
        sampler = TPESampler(
            n_startup_trials=0,
            multivariate=True,
            constant_liar=True,
            seed=derive_seed(self._seed, trial, "suggest"),
        )
        study = optuna.Study(study_name="", storage=_History(self._shown()), sampler=sampler)
        current = _freeze(trial, {}, {}, TrialState.RUNNING, {})
        configuration: dict[str, Value] = {}
        for names in self._groups:
            if self._space.is_active(names[0], configuration):
                variable = {name: self._distributions[name] for name in names if name in self._distributions}
                numbers = sampler.sample_relative(study, current, variable)
                for name in names:
                    configuration[name] = self._codes[name].decode(numbers.get(name, self._codes[name].low))
        self._space.validate(configuration)
        return configuration

    def is_exhausted(self) -> bool:
        """Returns False."""
        return False

    def started(self, trial: int, configuration: Configuration) -> None:
        """The trial is shown to the model as pending; one that starts again keeps what it showed."""
        known = self._seen.get(trial)
        if known is None:
            known = _Seen(configuration)
        self._update(trial, replace(known, pending=True, failed=False))

    def observed(self, trial: int, resource: int, loss: float) -> None:
        """The trial's rank is the one of its last level."""
        self._update(trial, replace(self._seen[trial], resource=resource, loss=loss))

    def ended(self, trial: int, *, failed: bool) -> None:
        """An unobserved trial that did not fail is forgotten: nothing is known of it."""
        if trial in self._seen:
            self._update(trial, replace(self._seen[trial], pending=False, failed=failed))

    def widened(self, space: Space) -> None:
        """What was seen is written in the numbers of the wider space."""
        self._random.widened(space)
        self._open(space)
        self._frozen.clear()
        for trial, seen in self._seen.items():
            self._seen[trial] = replace(seen, configuration=space.complete(seen.configuration))

    def told(self) -> Any:
        """Returns [trial, pending, failed, resource, loss] of each; a loss that is not finite as None."""
        return [
            (trial, seen.pending, seen.failed, seen.resource, seen.loss if seen.loss < float("inf") else None)
            for trial, seen in self._seen.items()
        ]

    def restore(self, told: Any, configurations: Mapping[int, Configuration]) -> None:
        """Takes over what another one was told."""
        for trial, pending, failed, resource, loss in told:
            seen = _Seen(configurations[trial], pending, failed, resource, float("inf") if loss is None else loss)
            self._seen[trial] = seen
        self._known = sorted(trial for trial, seen in self._seen.items() if seen.is_known)
        self._ranking = Ranking(seen.rank(trial) for trial, seen in self._seen.items() if seen.is_observed)

    def _numbers(self, configuration: Configuration) -> dict[str, float | int]:
        return {n: self._codes[n].encode(v) for n, v in configuration.items() if n in self._distributions}

    def _update(self, trial: int, seen: _Seen) -> None:
        before = self._seen.get(trial)
        if before is not None and before.is_observed:
            self._ranking.remove(before.rank(trial))
        if seen.is_observed:
            self._ranking.add(seen.rank(trial))
        was_known = before is not None and before.is_known
        if seen.is_known and not was_known:
            insort(self._known, trial)  # nearly always at the end
        elif was_known and not seen.is_known:
            del self._known[bisect_left(self._known, trial)]
        self._seen[trial] = seen
        self._frozen.pop(trial, None)

    def _shown(self) -> list[FrozenTrial]:
        """Returns the trials that the model sees, by number."""
        shown: Iterable[int] = self._known
        if len(self._known) > HISTORY:
            best = {trial for _, _, trial in islice(self._ranking, GOOD_AT_MOST)}
            shown = sorted(best.union(self._known[-(HISTORY - GOOD_AT_MOST) :]))
        self._frozen = {trial: self._frozen.get(trial) or self._freeze(trial) for trial in shown}
        return list(self._frozen.values())

    def _freeze(self, trial: int) -> FrozenTrial:
        seen = self._seen[trial]
        numbers = self._numbers(seen.configuration)
        distributions = {name: self._distributions[name] for name in numbers}
        if seen.is_observed:
            return _freeze(trial, numbers, distributions, TrialState.PRUNED, {seen.resource: seen.loss})
        return _freeze(trial, numbers, distributions, TrialState.RUNNING, {})


class _History(InMemoryStorage):  # type: ignore[misc]  # Optuna is not followed by mypy here
    """A storage that is only a view of our trials: nothing is copied, nothing is written."""

    def __init__(self, trials: list[FrozenTrial]) -> None:
        super().__init__()
        self._shown = trials

    def get_study_id_from_name(self, study_name: str) -> int:
        """There is one study."""
        return 0

    def get_study_directions(self, study_id: int) -> list[Any]:
        """Losses are minimised."""
        return [StudyDirection.MINIMIZE]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[Any] | None = None
    ) -> list[FrozenTrial]:
        """Returns the trials in the states asked for."""
        return [trial for trial in self._shown if states is None or trial.state in states]

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """The sampler's notes for other processes have no reader here."""


def _distribution(code: Code) -> BaseDistribution:
    if code.kind == "choice":
        return CategoricalDistribution(range(int(code.high) + 1))
    if code.kind == "int":
        return IntDistribution(int(code.low), int(code.high), log=code.log)
    return FloatDistribution(code.low, code.high, log=code.log)


def _freeze(
    trial: int,
    numbers: dict[str, float | int],
    distributions: dict[str, BaseDistribution],
    state: TrialState,
    values: dict[int, float],
) -> FrozenTrial:
    return FrozenTrial(
        number=trial,
        trial_id=trial,
        state=state,
        value=None,
        datetime_start=None,
        datetime_complete=None,
        params=numbers,
        distributions=distributions,
        user_attrs={},
        system_attrs={},
        intermediate_values=values,
    )

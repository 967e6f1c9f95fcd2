"""What a study was asked to do: the study file as frozen, checked values.

`StudySpecification.from_dict` takes the plain data of a study file, `to_dict` gives it back with every default filled
in. What names mean to other rooms (a search engine, a scheduler) is checked here too, so that a mistake costs no trial.
"""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from orchestrator.domain.errors import InvalidSpecification
from orchestrator.domain.grid import check_grid
from orchestrator.domain.sections import choice_of, name_of, number_of, parse_seconds, refusal, section_of, text_of
from orchestrator.domain.serving import ServeSpecification
from orchestrator.domain.space import Space
from orchestrator.domain.trials import Objective

EXECUTIONS = ("auto", "tune", "pooled", "inline")
ENGINES = ("auto", "random", "grid", "sobol", "tpe")
SCHEDULERS = ("asha", "none")
MODES = ("pause", "stop")
GOALS = ("minimize", "maximize")
DEFAULT_TRIALS = 100  # where a study names no budget at all
UNBOUNDED = 2**31 - 1  # a resource that no trial reaches: "until it ends by itself"


@dataclass(frozen=True, slots=True)
class DataSpecification:
    """Where the data comes from, and which shares of the rows are kept for validation and for the untouched test."""

    source: str
    target: str | None = None
    test: float = 0.2
    validation: float = 0.2
    seed: int = 0

    @classmethod
    def from_dict(cls, given: Any) -> "DataSpecification | None":
        """Returns the parsed section, or None where a study has no data of ours."""
        if given is None:
            return None
        given = {"source": given} if isinstance(given, str) else given
        section = section_of("data", given, [f.name for f in fields(cls)])
        if not isinstance(section.get("source"), str):
            raise refusal(
                "data.source", section.get("source"), "it takes text, such as sklearn:digits or module:function"
            )
        shares = {key: number_of(f"data.{key}", section.get(key, 0.2), 0.01, 0.9) for key in ("test", "validation")}
        if sum(shares.values()) >= 1:
            raise refusal("data", shares, "test and validation together must leave rows to train on")
        seed = number_of("data.seed", section.get("seed", 0), 0, whole=True)
        return cls(section["source"], section.get("target"), shares["test"], shares["validation"], seed)


@dataclass(frozen=True, slots=True)
class SchedulerSpecification:
    """How trials are compared on the way: rungs at `min`, `min * eta`, … up to `max` units of resource."""

    kind: str = "none"
    min: int = 1
    max: int = UNBOUNDED
    eta: int = 3
    mode: str = "pause"  # what becomes of who is not among the best of a rung: it waits there, or it is stopped

    def to_dict(self) -> dict[str, Any]:
        """Returns the section; the mode only where it is not the usual one, as in studies older than it."""
        whole = _plain(self)
        if self.mode == "pause":
            del whole["mode"]
        return whole

    @classmethod
    def from_dict(cls, given: Any) -> "SchedulerSpecification":
        """Returns the parsed section; without one every trial runs to its own end."""
        given = {"kind": given} if isinstance(given, str) else given
        section = section_of("scheduler", given, [f.name for f in fields(cls)])
        kind = choice_of("scheduler.kind", section.get("kind", "asha" if section else "none"), SCHEDULERS)
        low = number_of("scheduler.min", section.get("min", 1), 1, whole=True)
        high = number_of("scheduler.max", section.get("max", 27 if kind == "asha" else UNBOUNDED), 1, whole=True)
        if low > high:
            raise refusal("scheduler", dict(section), f"min {low} is above max {high}")
        mode = choice_of("scheduler.mode", section.get("mode", "pause"), MODES)
        if "mode" in section and kind != "asha":
            raise refusal("scheduler.mode", mode, f"only asha takes a mode, this one is {kind}")
        return cls(kind, low, high, number_of("scheduler.eta", section.get("eta", 3), 2, whole=True), mode)


def _unlimited(limit: float | None) -> float:
    return float("inf") if limit is None else limit


@dataclass(frozen=True, slots=True)
class Budget:
    """What a study may spend; the first limit that is reached ends it."""

    trials: int | None = None
    seconds: float | None = None

    @property
    def most_trials(self) -> float:
        """How many trials it allows."""
        if self.trials is not None:
            return self.trials
        return DEFAULT_TRIALS if self.seconds is None else math.inf

    def __str__(self) -> str:
        trials = "any number of trials" if self.most_trials == math.inf else f"{self.most_trials:.0f} trials"
        return trials if self.seconds is None else f"{trials} in {self.seconds:g} s"

    def is_larger(self, than: "Budget") -> bool:
        """Returns whether it allows more of something and less of nothing."""
        mine = (self.most_trials, _unlimited(self.seconds))
        other = (than.most_trials, _unlimited(than.seconds))
        return mine != other and all(left >= right for left, right in zip(mine, other, strict=True))

    @classmethod
    def from_dict(cls, given: Any) -> "Budget":
        """Returns the parsed section."""
        section = section_of("budget", given, ("trials", "time"))
        trials = section.get("trials")
        time = section.get("time")
        return cls(
            None if trials is None else number_of("budget.trials", trials, 1, whole=True),
            None if time is None else parse_seconds("budget.time", time),
        )


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker holds, and how many of them run side by side (None: as many as there is room for)."""

    cpu: float = 1.0
    gpu: float = 0.0
    concurrent: int | None = None

    @classmethod
    def from_dict(cls, given: Any) -> "Resources":
        """Returns the parsed section."""
        section = section_of("resources", given, [f.name for f in fields(cls)])
        concurrent = section.get("concurrent")
        return cls(
            float(number_of("resources.cpu", section.get("cpu", 1), 0.01)),
            float(number_of("resources.gpu", section.get("gpu", 0), 0)),
            None if concurrent is None else number_of("resources.concurrent", concurrent, 1, whole=True),
        )


@dataclass(frozen=True, slots=True)
class FailurePolicy:
    """How often a trial may start again, and when a study gives up because its first trials all fail alike."""

    crashes: int = 2  # restarts after its worker died under it
    errors: int = 0  # restarts after its own code raised or its metric was not finite
    alike: int = 3  # so many failures of one kind, and no success, end the study

    @classmethod
    def from_dict(cls, given: Any) -> "FailurePolicy":
        """Returns the parsed section."""
        section = section_of("failures", given, [f.name for f in fields(cls)])
        values = {f.name: section.get(f.name, f.default) for f in fields(cls)}
        low = {"crashes": 0, "errors": 0, "alike": 1}
        return cls(**{key: number_of(f"failures.{key}", value, low[key], whole=True) for key, value in values.items()})


@dataclass(frozen=True, slots=True)
class StudySpecification:
    """Everything that a study was asked to do."""

    study: str
    space: Space
    objective: Objective
    trainable: str = ""  # dotted path, module:name or file.py:name; empty where an object was given in Python
    data: DataSpecification | None = None
    engine: str = "auto"
    points: int | None = None  # of the grid: how many values a continuous parameter takes
    scheduler: SchedulerSpecification = field(default_factory=SchedulerSpecification)
    budget: Budget = field(default_factory=Budget)
    execution: str = "auto"
    resources: Resources = field(default_factory=Resources)
    failures: FailurePolicy = field(default_factory=FailurePolicy)
    serve: ServeSpecification | None = None
    worker_floor: int = 1  # so many workers stay, however many replicas are wanted
    timeout_seconds: float | None = None  # of a trial without a word
    seed: int = 0
    storage: str = "./runs"

    KEYS: ClassVar[tuple[str, ...]] = (
        "study",
        "data",
        "trainable",
        "space",
        "objective",
        "search",
        "scheduler",
        "budget",
        "execution",
        "resources",
        "failures",
        "serve",
        "tuning",
        "timeout",
        "seed",
        "storage",
    )

    def __post_init__(self) -> None:
        name_of("study", self.study)
        if self.points is not None and self.engine != "grid":
            raise refusal("search.points", self.points, f"only the engine grid takes points, this one is {self.engine}")
        if self.engine == "grid":
            check_grid(self.space, self.points)

    def with_changes(self, **changes: Any) -> "StudySpecification":
        """Returns a copy with some fields replaced."""
        return replace(self, **changes)

    @classmethod
    def from_dict(cls, given: Any) -> "StudySpecification":
        """Returns the study that a study file describes.

        Raises:
            InvalidSpecification: an unknown key (the nearest known one is named) or a value that cannot be used.
            InvalidSpace: the space makes no sense.
        """
        whole = section_of("study file", given, cls.KEYS)
        for key in ("study", "space", "objective"):
            if key not in whole:
                raise InvalidSpecification(f"study file: '{key}' is missing")
        study = name_of("study", whole["study"])
        search = whole.get("search")
        search = {"engine": search} if isinstance(search, str) else search
        search = section_of("search", search, ("engine", "points"))
        points = search.get("points")
        tuning = section_of("tuning", whole.get("tuning"), ("floor",))
        timeout = whole.get("timeout")
        return cls(
            study=study,
            space=Space.from_dict(whole["space"]),
            objective=_objective(whole["objective"]),
            trainable=text_of("trainable", whole.get("trainable", "")),
            data=DataSpecification.from_dict(whole.get("data")),
            engine=choice_of("search.engine", search.get("engine", "auto"), ENGINES),
            points=None if points is None else number_of("search.points", points, 1, whole=True),
            scheduler=SchedulerSpecification.from_dict(whole.get("scheduler")),
            budget=Budget.from_dict(whole.get("budget")),
            execution=choice_of("execution", whole.get("execution", "auto"), EXECUTIONS),
            resources=Resources.from_dict(whole.get("resources")),
            failures=FailurePolicy.from_dict(whole.get("failures")),
            serve=ServeSpecification.from_dict(whole.get("serve"), study),
            worker_floor=number_of("tuning.floor", tuning.get("floor", 1), 0, whole=True),
            timeout_seconds=None if timeout is None else parse_seconds("timeout", timeout),
            seed=number_of("seed", whole.get("seed", 0), 0, whole=True),
            storage=text_of("storage", whole.get("storage", "./runs")),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the study file with every default filled in."""
        whole: dict[str, Any] = {
            "study": self.study,
            "trainable": self.trainable,
            "space": self.space.to_dict(),
            "objective": {
                "metric": self.objective.metric,
                "goal": "maximize" if self.objective.maximize else "minimize",
            },
            "search": {"engine": self.engine},
            "scheduler": self.scheduler.to_dict(),
            "budget": {"trials": self.budget.trials, "time": self.budget.seconds},
            "execution": self.execution,
            "resources": _plain(self.resources),
            "failures": _plain(self.failures),
            "timeout": self.timeout_seconds,
            "seed": self.seed,
            "storage": self.storage,
        }
        if self.points is not None:
            whole["search"]["points"] = self.points
        if self.data is not None:
            whole["data"] = _plain(self.data)
        if self.serve is not None:
            whole["serve"] = self.serve.to_dict()
        if self.worker_floor != 1:
            whole["tuning"] = {"floor": self.worker_floor}
        return whole


def _plain(section: Any) -> dict[str, Any]:
    return {f.name: getattr(section, f.name) for f in fields(section)}


def _objective(given: Any) -> Objective:
    section = section_of("objective", given, ("metric", "goal"))
    metric = section.get("metric")
    if not isinstance(metric, str) or not metric:
        raise refusal("objective.metric", metric, "it takes the name of a metric that the trainable reports")
    goal = choice_of("objective.goal", section.get("goal", "minimize"), GOALS)
    return Objective(metric, maximize=goal == "maximize")

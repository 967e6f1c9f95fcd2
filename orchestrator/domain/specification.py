"""What a study was asked to do: the study file as frozen, checked values.

`StudySpecification.from_dict` takes the plain data of a study file, `to_dict` gives it back with every default filled
in. What names mean to other rooms (a search engine, a scheduler) is checked here too, so that a mistake costs no trial.
"""

import math
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

from orchestrator.domain.errors import InvalidSpecification, did_you_mean
from orchestrator.domain.grid import check_grid
from orchestrator.domain.rollout import DEFAULT_SECONDS, DEFAULT_STEPS, ROLLOUTS, SHADOW, RolloutPlan
from orchestrator.domain.space import Space
from orchestrator.domain.trials import Objective

EXECUTIONS = ("auto", "tune", "pooled", "inline")
ENGINES = ("auto", "random", "grid", "sobol", "tpe")
SCHEDULERS = ("asha", "none")
SERVE_KEYS = ("name", "host", "port", "grpc_port", "replicas", "cpu", "promote", "rollout", "scale", "priority")
PRIORITIES = ("serving", "tuning")
MODES = ("pause", "stop")
GOALS = ("minimize", "maximize")
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DEFAULT_TRIALS = 100  # where a study names no budget at all
UNBOUNDED = 2**31 - 1  # a resource that no trial reaches: "until it ends by itself"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _fail(where: str, given: Any, allowed: str) -> InvalidSpecification:
    return InvalidSpecification(f"{where}: given {given!r}; {allowed}")


def _section(where: str, given: Any, known: Iterable[str]) -> Mapping[str, Any]:
    """Returns the section as a mapping that holds known keys only."""
    known = tuple(known)
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise _fail(where, given, f"it takes {{{', '.join(known)}}}")
    for key in given:
        if key not in known:
            raise InvalidSpecification(
                f"{where}: unknown key '{key}'.{did_you_mean(str(key), known)} Known: {', '.join(known)}"
            )
    return given


def _choice(where: str, given: Any, allowed: tuple[str, ...]) -> str:
    if given not in allowed:
        raise InvalidSpecification(
            f"{where}: given {given!r}; it is one of {', '.join(allowed)}.{did_you_mean(str(given), allowed)}"
        )
    return str(given)


def _number(where: str, given: Any, low: float, high: float | None = None, *, whole: bool = False) -> Any:
    """Returns a number within [low, high]; text such as "1e-3" too, because YAML 1.1 reads that as text."""
    number = given
    if isinstance(given, str):
        with suppress(ValueError):
            number = int(given) if whole else float(given)
    kinds = int if whole else int | float
    top = math.inf if high is None else high
    if isinstance(number, bool) or not isinstance(number, kinds) or not low <= number <= top or number == math.inf:
        kind = "a whole number" if whole else "a number"
        raise _fail(where, given, f"it takes {kind} of at least {low}" + (f" and at most {high}" if high else ""))
    return number


def parse_seconds(where: str, given: Any) -> float:
    """Returns seconds from a number or from text such as "90s", "10m" or "1.5h"."""
    if isinstance(given, str):
        match = re.fullmatch(r"\s*([0-9.]+)\s*(ms|s|m|h|d)?\s*", given)
        with suppress(ValueError):
            given = float(match[1]) * SECONDS[match[2] or "s"] if match else given
    if isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < float("inf"):
        raise _fail(where, given, 'it takes a time above 0, such as 90, "90s", "10m" or "1.5h"')
    return float(given)


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
        section = _section("data", given, [f.name for f in fields(cls)])
        if not isinstance(section.get("source"), str):
            raise _fail(
                "data.source", section.get("source"), "it takes text, such as sklearn:digits or module:function"
            )
        shares = {key: _number(f"data.{key}", section.get(key, 0.2), 0.01, 0.9) for key in ("test", "validation")}
        if sum(shares.values()) >= 1:
            raise _fail("data", shares, "test and validation together must leave rows to train on")
        seed = _number("data.seed", section.get("seed", 0), 0, whole=True)
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
        section = _section("scheduler", given, [f.name for f in fields(cls)])
        kind = _choice("scheduler.kind", section.get("kind", "asha" if section else "none"), SCHEDULERS)
        low = _number("scheduler.min", section.get("min", 1), 1, whole=True)
        high = _number("scheduler.max", section.get("max", 27 if kind == "asha" else UNBOUNDED), 1, whole=True)
        if low > high:
            raise _fail("scheduler", dict(section), f"min {low} is above max {high}")
        mode = _choice("scheduler.mode", section.get("mode", "pause"), MODES)
        if "mode" in section and kind != "asha":
            raise _fail("scheduler.mode", mode, f"only asha takes a mode, this one is {kind}")
        return cls(kind, low, high, _number("scheduler.eta", section.get("eta", 3), 2, whole=True), mode)


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
        section = _section("budget", given, ("trials", "time"))
        trials = section.get("trials")
        time = section.get("time")
        return cls(
            None if trials is None else _number("budget.trials", trials, 1, whole=True),
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
        section = _section("resources", given, [f.name for f in fields(cls)])
        concurrent = section.get("concurrent")
        return cls(
            float(_number("resources.cpu", section.get("cpu", 1), 0.01)),
            float(_number("resources.gpu", section.get("gpu", 0), 0)),
            None if concurrent is None else _number("resources.concurrent", concurrent, 1, whole=True),
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
        section = _section("failures", given, [f.name for f in fields(cls)])
        values = {f.name: section.get(f.name, f.default) for f in fields(cls)}
        low = {"crashes": 0, "errors": 0, "alike": 1}
        return cls(**{key: _number(f"failures.{key}", value, low[key], whole=True) for key, value in values.items()})


@dataclass(frozen=True, slots=True)
class ScaleSpecification:
    """When an endpoint has too few replicas, and for how long too many before some go."""

    ongoing: float = 8.0  # requests at once for each replica
    latency_seconds: float | None = None  # from a request's arrival to its answer, on average
    down_seconds: float = 30.0

    @classmethod
    def from_dict(cls, given: Any) -> "ScaleSpecification":
        """Returns the parsed section."""
        section = _section("serve.scale", given, ("ongoing", "latency", "down"))
        default, latency = cls(), section.get("latency")
        return cls(
            float(_number("serve.scale.ongoing", section.get("ongoing", default.ongoing), 0.1)),
            None if latency is None else parse_seconds("serve.scale.latency", latency),
            parse_seconds("serve.scale.down", section.get("down", default.down_seconds)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the section that `from_dict` takes."""
        return {"ongoing": self.ongoing, "latency": self.latency_seconds, "down": self.down_seconds}


@dataclass(frozen=True, slots=True)
class ServeSpecification:
    """The endpoint that the study feeds, and by how much a challenger must beat the champion."""

    name: str
    port: int = 8000
    replicas: int = 1  # the least; they are reserved from the start
    replica_cpus: float = 1.0
    margin: float = 0.0
    host: str = "127.0.0.1"
    grpc_port: int | None = None  # None: no gRPC
    rollout: RolloutPlan = field(default_factory=RolloutPlan)
    most_replicas: int = 1
    scale: ScaleSpecification = field(default_factory=ScaleSpecification)
    priority: str = "serving"

    @classmethod
    def from_dict(cls, given: Any, study: str) -> "ServeSpecification | None":
        """Returns the parsed section, or None where nothing is served."""
        if given is None or given is False:
            return None
        section = _section("serve", {} if given is True else given, SERVE_KEYS)
        least, most = _replicas(section.get("replicas", 1))
        promote = _section("serve.promote", section.get("promote"), ("margin",))
        grpc_port = section.get("grpc_port")
        return cls(
            _name("serve.name", section.get("name", study)),
            _number("serve.port", section.get("port", 8000), 1, 65535, whole=True),
            least,
            float(_number("serve.cpu", section.get("cpu", 1), 0)),
            float(_number("serve.promote.margin", promote.get("margin", 0.0), 0)),
            _text("serve.host", section.get("host", "127.0.0.1")),
            None if grpc_port is None else _number("serve.grpc_port", grpc_port, 1, 65535, whole=True),
            _rollout(section.get("rollout")),
            most,
            ScaleSpecification.from_dict(section.get("scale")),
            _choice("serve.priority", section.get("priority", PRIORITIES[0]), PRIORITIES),
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the section that `from_dict` takes; what an endpoint of fixed size needs not is left out."""
        is_elastic = self.most_replicas > self.replicas
        whole = {
            "name": self.name,
            "host": self.host,
            "port": self.port,
            "replicas": {"min": self.replicas, "max": self.most_replicas} if is_elastic else self.replicas,
            "cpu": self.replica_cpus,
            "promote": {"margin": self.margin},
            "rollout": _rollout_section(self.rollout),
            **({} if self.grpc_port is None else {"grpc_port": self.grpc_port}),
        }
        return whole | ({"scale": self.scale.to_dict(), "priority": self.priority} if is_elastic else {})


def _replicas(given: Any) -> tuple[int, int]:
    if not isinstance(given, Mapping):
        least = _number("serve.replicas", given, 1, whole=True)
        return least, least
    section = _section("serve.replicas", given, ("min", "max"))
    least = _number("serve.replicas.min", section.get("min", 1), 1, whole=True)
    return least, _number("serve.replicas.max", section.get("max", least), least, whole=True)


def _rollout(given: Any) -> RolloutPlan:
    """Returns how a challenger takes over; `each` is a number of requests, or a time as text."""
    known = ("kind", "steps", "each", "alpha", "errors", "slower", "disagreement")
    section = _section("serve.rollout", {"kind": given} if isinstance(given, str) else given, known)
    kind = _choice("serve.rollout.kind", section.get("kind", "canary" if section else "full"), ROLLOUTS)
    asked = section.get("steps")
    steps = DEFAULT_STEPS[kind]
    if asked is not None and asked != list(steps):
        steps = _steps(kind, asked)
    each = section.get("each", f"{DEFAULT_SECONDS:g}s")
    requests = _number("serve.rollout.each", each, 1, whole=True) if not isinstance(each, str) else None
    disagreement = section.get("disagreement")
    return RolloutPlan(
        kind,
        steps,
        None if requests is not None else parse_seconds("serve.rollout.each", each),
        requests,
        float(_number("serve.rollout.alpha", section.get("alpha", 0.05), 0.0001, 0.5)),
        float(_number("serve.rollout.errors", section.get("errors", 0.01), 0, 0.9)),
        float(_number("serve.rollout.slower", section.get("slower", 3.0), 1)),
        None if disagreement is None else float(_number("serve.rollout.disagreement", disagreement, 0.01, 0.99)),
    )


def _steps(kind: str, given: Any) -> tuple[float, ...]:
    """Returns the challenger's shares, rising; a last one of 1 says what follows in any case."""
    allowed = "a list of shares of the requests, rising from 0 (the shadow) to 1, such as [0, 0.05, 0.25]"
    if kind != "canary" or not isinstance(given, list | tuple):
        raise _fail("serve.rollout.steps", given, f"kind canary takes {allowed}; this one is {kind}")
    steps = [float(_number("serve.rollout.steps", step, SHADOW, 1)) for step in given]
    steps = steps[:-1] if steps[-1:] == [1.0] else steps
    if not steps or steps != sorted(set(steps)) or steps[-1] == 1.0:
        raise _fail("serve.rollout.steps", given, f"it takes {allowed}")
    return tuple(steps)


def _name(where: str, given: Any) -> str:
    if not isinstance(given, str) or not NAME.fullmatch(given):
        raise _fail(where, given, "it takes up to 64 letters, digits, dots, dashes and underscores")
    return given


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
        _name("study", self.study)
        if self.points is not None and self.engine != "grid":
            raise _fail("search.points", self.points, f"only the engine grid takes points, this one is {self.engine}")
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
        whole = _section("study file", given, cls.KEYS)
        for key in ("study", "space", "objective"):
            if key not in whole:
                raise InvalidSpecification(f"study file: '{key}' is missing")
        study = _name("study", whole["study"])
        search = whole.get("search")
        search = {"engine": search} if isinstance(search, str) else search
        search = _section("search", search, ("engine", "points"))
        points = search.get("points")
        tuning = _section("tuning", whole.get("tuning"), ("floor",))
        timeout = whole.get("timeout")
        return cls(
            study=study,
            space=Space.from_dict(whole["space"]),
            objective=_objective(whole["objective"]),
            trainable=_text("trainable", whole.get("trainable", "")),
            data=DataSpecification.from_dict(whole.get("data")),
            engine=_choice("search.engine", search.get("engine", "auto"), ENGINES),
            points=None if points is None else _number("search.points", points, 1, whole=True),
            scheduler=SchedulerSpecification.from_dict(whole.get("scheduler")),
            budget=Budget.from_dict(whole.get("budget")),
            execution=_choice("execution", whole.get("execution", "auto"), EXECUTIONS),
            resources=Resources.from_dict(whole.get("resources")),
            failures=FailurePolicy.from_dict(whole.get("failures")),
            serve=ServeSpecification.from_dict(whole.get("serve"), study),
            worker_floor=_number("tuning.floor", tuning.get("floor", 1), 0, whole=True),
            timeout_seconds=None if timeout is None else parse_seconds("timeout", timeout),
            seed=_number("seed", whole.get("seed", 0), 0, whole=True),
            storage=_text("storage", whole.get("storage", "./runs")),
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


def _rollout_section(plan: RolloutPlan) -> dict[str, Any]:
    return {
        "kind": plan.kind,
        "steps": list(plan.steps),
        "each": plan.each,
        "alpha": plan.alpha,
        "errors": plan.errors,
        "slower": plan.slower,
        "disagreement": plan.disagreement,
    }


def _plain(section: Any) -> dict[str, Any]:
    return {f.name: getattr(section, f.name) for f in fields(section)}


def _text(where: str, given: Any) -> str:
    if not isinstance(given, str):
        raise _fail(where, given, "it takes text")
    return given


def _objective(given: Any) -> Objective:
    section = _section("objective", given, ("metric", "goal"))
    metric = section.get("metric")
    if not isinstance(metric, str) or not metric:
        raise _fail("objective.metric", metric, "it takes the name of a metric that the trainable reports")
    goal = _choice("objective.goal", section.get("goal", "minimize"), GOALS)
    return Objective(metric, maximize=goal == "maximize")

"""One step of a study's default configuration, and its export, in a directory that is gone afterwards."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from orchestrator.cli.printing import number, parameters
from orchestrator.domain.errors import did_you_mean
from orchestrator.domain.exchange import Export, Run
from orchestrator.domain.seeds import derive_seed
from orchestrator.domain.specification import StudySpecification
from orchestrator.domain.trials import Decision
from orchestrator.tuning.code import Code, trial_defaults
from orchestrator.tuning.failures import failure_of
from orchestrator.tuning.runs import RETURNED, ActiveRun, Stretch
from orchestrator.tuning.workshop import Workshop

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a check found; `problem` is empty where the study is fit to run."""

    study: str
    params: dict[str, Any]
    data: dict[str, Any] | None = None
    metrics: dict[str, float] | None = None
    exported: bool | None = None  # None: nothing is served
    problem: str = ""
    traceback: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns plain data."""
        return asdict(self)


def rehearse(specification: StudySpecification, say: Say) -> Rehearsal:
    """Returns what came of one step; `say` hears of each thing that went well.

    Raises:
        InvalidInput: the trainable or the data cannot be loaded.
    """
    say(f"study '{specification.study}', {len(specification.space.to_dict())} parameters")
    code = Code.named(specification.trainable)
    resolved = code.resolve()
    say(f"{resolved.kind} {resolved.reference}")
    parts = _load(specification)
    found = Rehearsal(specification.study, _first(specification, trial_defaults(resolved)))
    if parts is not None:
        facts = {"train": len(parts.train_y), "validation": len(parts.validation_y), "test": len(parts.test_y)}
        say(f"data {parts.sha256[:12]}: " + ", ".join(f"{count} {name}" for name, count in facts.items()) + " rows")
        found = replace(found, data={**facts, "features": parts.n_features, "sha256": parts.sha256})
    with TemporaryDirectory(prefix="orchestrator-check-") as place:
        return _run(Workshop(specification, code, parts, Path(place)), found, say)


def _load(specification: StudySpecification) -> Any:
    if specification.data is None:
        return None
    from trainables.data import load, split

    asked = specification.data
    return split(load(asked.source, target=asked.target), asked.test, asked.validation, asked.seed)


def _first(specification: StudySpecification, defaults: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the configuration that the study would begin with."""
    space = specification.space
    return dict(space.complete({}) if defaults is None else space.nearest(defaults))


def _run(workshop: Workshop, found: Rehearsal, say: Say) -> Rehearsal:
    seed = derive_seed(workshop.specification.seed, 0, "train")
    run: ActiveRun | None = None
    try:
        run = workshop.open(Run(0, 1, found.params, seed, 1, None, 0))
        stretch = run.advance(1, lambda: False)
        say(f"one step with {parameters(found.params)}")
        return _judge(workshop, found, run, stretch, say)
    except Exception as error:  # noqa: BLE001 - user code: what it raised is the result
        below = error.__traceback__.tb_next if error.__traceback__ else None  # this room's frame says nothing
        failure = failure_of(error.with_traceback(below))
        return replace(found, problem=f"the first step failed: {failure.message}", traceback=failure.traceback)
    finally:
        if run is not None:
            run.close(Decision.STOP)


def _judge(workshop: Workshop, found: Rehearsal, run: ActiveRun, stretch: Stretch, say: Say) -> Rehearsal:
    """Returns what the step reported, and whether the study could go on with that."""
    specification = workshop.specification
    metrics = dict(stretch.reports[-1][1]) if stretch.reports else {}
    if RETURNED in metrics:
        metrics[specification.objective.metric] = metrics.pop(RETURNED)
    found = replace(found, metrics=metrics)
    problem = _metric_problem(specification, metrics)
    if problem:
        return replace(found, problem=problem)
    say("reports " + ", ".join(f"{name} {number(value)}" for name, value in metrics.items()))
    return found if specification.serve is None else _export(workshop, found, run, say)


def _metric_problem(specification: StudySpecification, metrics: dict[str, float]) -> str:
    metric = specification.objective.metric
    if metric in metrics:
        return ""
    return (
        f"the trainable reports no '{metric}'; it reports: {', '.join(metrics) or 'nothing'}."
        f"{did_you_mean(metric, metrics)} Mend objective.metric, or report it"
    )


def _export(workshop: Workshop, found: Rehearsal, run: ActiveRun, say: Say) -> Rehearsal:
    """Exports the model of one step as a promotion would."""
    if workshop.resolved.kind == "function":
        return replace(found, exported=False, problem=NO_MODEL)
    checkpoint = workshop.checkpoints.publish(0, 1, run.save)
    if checkpoint is None:
        return replace(found, exported=False, problem=NO_CHECKPOINT)
    result = workshop.export(Export("check", 0, found.params, 0, checkpoint, None))
    if result.error:
        return replace(found, exported=False, problem=f"it cannot be served: {result.error}")
    say("exports a bundle that answers as the model does")
    return replace(found, exported=True)


NO_MODEL = "a function objective has no model that could be served; give a trainable class, or leave `serve` out"
NO_CHECKPOINT = "the trainable saves no checkpoint, and a bundle is made of one; write `save`, or leave `serve` out"

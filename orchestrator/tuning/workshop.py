"""What a worker needs besides its orders: the user's code, the data, and where things are kept."""

import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from deploy.bundle import Lineage
from orchestrator.domain.errors import InvalidTrainable
from orchestrator.domain.exchange import Export, ExportResult, Run
from orchestrator.domain.specification import StudySpecification
from orchestrator.journal import AnyStorage, Storage, scratch
from orchestrator.study import Layout
from orchestrator.tuning.checkpoints import Checkpoints, CheckpointStore
from orchestrator.tuning.code import Code, check_end
from orchestrator.tuning.failures import failure_of
from orchestrator.tuning.outage import OUTAGE_SECONDS, blaming_the_disk, is_outage, outlast
from orchestrator.tuning.patient import PatientCheckpoints
from orchestrator.tuning.runs import ActiveRun, FunctionRun, StepRun
from orchestrator.tuning.uploaded import UploadedCheckpoints
from trainables.contract import Context, Trainable, resource_of
from trainables.resolve import Resolved


@dataclass(frozen=True)
class Workshop:
    """One study's means of work on one host; shared by the runs of a worker. Travels without the imported code."""

    specification: StudySpecification
    code: Code
    data: Any
    storage: AnyStorage
    data_sha256: str = ""
    versions: Mapping[str, str] | None = None

    @cached_property
    def resolved(self) -> Resolved:
        """The user's code, imported in this process."""
        return self.code.resolve()

    @cached_property
    def layout(self) -> Layout:
        """Where the study keeps its things."""
        return Layout(self.storage, self.specification.study)

    @cached_property
    def checkpoints(self) -> Checkpoints:
        """The study's checkpoints."""
        place = self.layout.checkpoints
        patience = min(place.patience_seconds, self._outage_seconds)
        return PatientCheckpoints(checkpoints_on(place.patient(patience)), self._outage_seconds)

    @property
    def _outage_seconds(self) -> float:
        """How long a trial waits for the storage: a silent one must not be taken for one that hangs."""
        timeout = self.specification.timeout_seconds
        return OUTAGE_SECONDS if timeout is None else min(OUTAGE_SECONDS, timeout / 4)

    def prepare(self) -> None:
        """Imports the user's code, once.

        Raises:
            InvalidTrainable: see `Code.resolve`; also where its trials would never end.
        """
        _ = self._checked

    @cached_property
    def _checked(self) -> Resolved:
        check_end(self.specification, self.resolved)
        return self.resolved

    def context(self, seed: int) -> Context:
        """Returns what a trial may know."""
        return Context(seed, threads=max(1, int(self.specification.resources.cpu)))

    def open(self, order: Run) -> ActiveRun:
        """Returns the trial of an order, built and, where it has a checkpoint, loaded; raises what user code raises."""
        self.checkpoints.forget(order.trial)
        saved = self.checkpoints.fetch(order.checkpoint) if order.checkpoint else None
        first_step = order.checkpoint.step if order.checkpoint else 0
        if self.resolved.kind == "function":
            return FunctionRun.open(self.resolved.target, order, self.data, saved, first_step)
        trainable = self._build(order.params, order.seed, saved)
        return StepRun(trainable, first_step, is_one_step=resource_of(self._trainable_class) == "fit")

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def _trainable_class(self) -> type[Trainable]:
        target = self.resolved.target
        assert isinstance(target, type)
        return target

    def _build(self, params: Mapping[str, Any], seed: int, saved: Path | None) -> Trainable:
        trainable = self._trainable_class()
        trainable.build(params, self.data, self.context(seed))
        if saved is not None:
            trainable.load(saved)
        return trainable

    def export(self, order: Export) -> ExportResult:
        """Makes a bundle of a checkpoint; a refusal is a result, not an exception.

        Raises:
            StorageError: the storage was away for too long; the model is not to blame.
        """
        try:
            if self.resolved.kind == "function":
                raise InvalidTrainable(
                    "a function objective has no model that could be served; "
                    "give a trainable class, or leave `serve` out"
                )
            uri = outlast(lambda: self._exported(order), seconds=self._outage_seconds)
        except Exception as error:  # user code; the study records it and goes on
            if is_outage(error):
                raise
            return ExportResult(order.bundle, error=failure_of(error).message)
        return ExportResult(order.bundle, uri=uri)

    def _exported(self, order: Export) -> str:
        bundles = self.layout.bundles
        if not bundles.is_local:
            return self._uploaded(order, bundles)
        target = bundles.local_path / order.bundle
        if not target.exists():
            self._write_bundle(order, target)
        return str(target)

    def _uploaded(self, order: Export, bundles: Storage) -> str:
        """Exports on this host, then publishes under a name that no other worker can use at the same time."""
        name = f"{order.bundle}-{uuid.uuid4().hex[:8]}"
        beside = scratch("bundle")
        try:
            self._write_bundle(order, beside / name)
            bundles.upload(beside / name, name, is_new=True)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return bundles.child(name).uri

    def _write_bundle(self, order: Export, target: Path) -> None:
        trainable = self._build(order.params, order.seed, self.checkpoints.fetch(order.checkpoint))
        with blaming_the_disk(target.parent, f"bundle {order.bundle}"):
            trainable.export(target, self._lineage(order))

    def _lineage(self, order: Export) -> Lineage:
        return Lineage(
            study=self.specification.study,
            trial=order.trial,
            step=order.checkpoint.step,
            params=dict(order.params),
            value=order.value,
            metric=self.specification.objective.metric,
            data_sha256=self.data_sha256,
            seed=order.seed,
            versions=dict(self.versions or {}),
            created=datetime.fromtimestamp(time.time(), UTC).isoformat(timespec="seconds"),
        )


def checkpoints_on(storage: Storage) -> Checkpoints:
    """Returns the checkpoints that lie there."""
    return CheckpointStore(storage.local_path) if storage.is_local else UploadedCheckpoints(storage)

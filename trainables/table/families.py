"""A model family and the preparation of its columns as one configuration, judged by five-fold cross-validation.

One step is one fold: the columns stage and the model are fitted to the other four, and answer it. All rows but those
of the test part are used, so the validation part is among them; the folds are the same for every trial, so that two
configurations are compared on the same rows. What is exported, after any number of folds, is fitted once more to all
these rows: the metrics are those of the procedure, and the test part measures the model itself.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController  # type: ignore[import-untyped]

from deploy.bundle import Column, ColumnKind, Kind, Lineage, Table, TableEncoder
from orchestrator.domain.errors import InvalidTrainable
from orchestrator.domain.seeds import derive_seed
from trainables.contract import Context, Resource
from trainables.metrics import auc, scores
from trainables.publish import publish_table
from trainables.split import Split
from trainables.table.estimators import DEFAULT_FAMILY, FAMILIES, Plan
from trainables.table.folds import deal_folds
from trainables.table.preparation import fit_encoder
from trainables.table_split import TableSplit

FOLDS = 5
FOLD_SEED = 0  # of all trials: another one each would add its own luck to every comparison
WHOLE = FOLDS + 1  # where the folds are numbered from 1, the fit to all rows

Metrics = dict[str, float]


class Families:
    """The trainable. Metrics are means over the folds so far, and their standard errors (0 after one fold).

    Classification: `val_loss`, `val_accuracy`, `val_auc`; regression: `val_loss`, `val_rmse`, `val_r2`; each with
    `_se`. A step beyond the last fold changes nothing. A checkpoint is the folds' results, as JSON.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"family": DEFAULT_FAMILY, **FAMILIES[DEFAULT_FAMILY].parameters}
    resource: ClassVar[Resource] = "rounds"

    def build(self, params: Mapping[str, Any], data: Split | TableSplit, context: Context) -> None:
        """Reads the configuration; nothing is fitted yet."""
        self.plan = Plan.of(params)
        self.data = data if isinstance(data, TableSplit) else _as_table(data)
        self.context = context
        self.pools = ThreadpoolController()
        self.rows = np.sort(np.concatenate([self.data.train, self.data.validation]))
        if len(self.rows) < 2 * FOLDS:
            raise InvalidTrainable(f"{len(self.rows)} rows are too few for {FOLDS} folds; bring {2 * FOLDS} or more")
        self.fold_of = deal_folds(self.data.y[self.rows], self.data.kind, FOLDS, FOLD_SEED)
        self.results: list[Metrics] = []
        self.fitted: _Fitted | None = None

    def step(self) -> Mapping[str, float]:
        """Fits the next fold's model and answers the rows held out."""
        if len(self.results) < FOLDS:
            fold = len(self.results)
            held_out = self.rows[self.fold_of == fold]
            fitted = self._fit(self.rows[self.fold_of != fold], fold + 1)
            with self.pools.limit(limits=self.context.threads):
                answers = fitted.predict(self.data.table[held_out])
            self.results.append(_measured(self.data.kind, answers, self.data.y[held_out]))
        return _summary(self.results)

    def _fit(self, rows: NDArray[np.int64], purpose: int) -> "_Fitted":
        table, y = self.data.table[rows], self.data.y[rows]
        with self.pools.limit(limits=self.context.threads):
            encoder = fit_encoder(table, self.plan.preparation)
            seed = derive_seed(self.context.seed, purpose, "fold") % 2**32
            model = self.plan.make(self.data.kind, seed, self.context.threads)
            model.fit(encoder.transform(table), y)
        return _Fitted(encoder, model, self.data)

    @property
    def whole(self) -> "_Fitted":
        """The model fitted to all rows but those of the test part; fitted when it is first asked for."""
        if self.fitted is None:
            self.fitted = self._fit(self.rows, WHOLE)
        return self.fitted

    def save(self, directory: Path) -> None:
        """Writes the folds' results; models are not needed again."""
        (directory / "folds.json").write_text(json.dumps(self.results))

    def load(self, directory: Path) -> None:
        """Goes on with the fold after the last result; a number in JSON comes back as it was."""
        self.results = json.loads((directory / "folds.json").read_text())

    def predict(self, rows: Table | NDArray[np.float32]) -> NDArray[Any]:
        """Returns class probabilities `(n_rows, n_classes)` or values `(n_rows,)` of the model fitted to all rows."""
        table = rows if isinstance(rows, Table) else Table.of_numbers(self.data.table.columns, rows)
        return self.whole.predict(table)

    def export(self, directory: Path, lineage: Lineage) -> None:
        """Writes columns stage and model as a bundle that takes raw rows, fitted to all rows but the test part's.

        Raises:
            BundleError: the model does not convert, or the bundle does not answer as it does.
        """
        from trainables.sklearn.export import to_onnx  # skl2onnx takes a second to import, and few trials export

        encoder, model = self.whole.encoder, self.whole.model
        publish_table(directory, to_onnx(model, len(encoder.features)), encoder, self.data, self.predict, lineage)


class _Fitted:
    """A columns stage and the model behind it."""

    def __init__(self, encoder: TableEncoder, model: Any, data: TableSplit) -> None:
        self.encoder = encoder
        self.model = model
        self._kind, self._n_classes = data.kind, len(data.classes)

    def predict(self, table: Table) -> NDArray[Any]:
        """Returns probabilities of all classes, also of those that the training rows lacked; or values."""
        features = self.encoder.transform(table)
        answer = self.model.predict if self._kind is Kind.REGRESSION else self.model.predict_proba
        # scikit-learn sums all cells to see whether they are finite; the sum of extreme ones is not, and each is
        with np.errstate(over="ignore", invalid="ignore"):
            given = np.asarray(answer(features))
        if self._kind is Kind.REGRESSION:
            return given
        whole = np.zeros((len(given), self._n_classes))
        whole[:, self.model.classes_] = given
        return whole


def _as_table(data: Split) -> TableSplit:
    """Returns arrays of numbers as the table that they are."""
    values = np.concatenate([x for _, x, _ in data.parts()])
    missing = np.isnan(values).any(axis=0).tolist()
    columns = [
        Column(name, ColumnKind.NUMBER, nullable=nullable)
        for name, nullable in zip(data.feature_names, missing, strict=True)
    ]
    ends = np.cumsum([len(y) for _, _, y in data.parts()])
    train, validation, test = np.split(np.arange(ends[-1]), ends[:-1])
    return TableSplit(
        table=Table.of_numbers(columns, values),
        y=np.concatenate([y for _, _, y in data.parts()]),
        train=train,
        validation=validation,
        test=test,
        classes=data.classes,
        kind=data.kind,
        sha256=data.sha256,
        description=data.description,
        licence=data.licence,
    )


def _measured(kind: Kind, answers: NDArray[Any], y: NDArray[Any]) -> Metrics:
    measured = scores(kind, answers, y)
    return {**measured, "auc": auc(answers, y)} if kind is Kind.CLASSIFICATION else measured


def _summary(results: Sequence[Metrics]) -> Metrics:
    """Returns each measure's mean over the folds, and the standard error of that mean."""
    n = len(results)
    summary: Metrics = {}
    for name in results[0]:
        values = [result[name] for result in results]
        mean = math.fsum(values) / n
        variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1) if n > 1 else 0.0
        summary[f"val_{name}"], summary[f"val_{name}_se"] = mean, math.sqrt(variance / n)
    return summary

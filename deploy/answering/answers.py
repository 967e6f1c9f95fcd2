"""What `/predict` answers: as JSON, as CSV or as an Arrow IPC stream.

A table has a column `prediction`, and for a classification one `probability_<label>` a label; a regression with several
targets has `prediction_0`, `prediction_1` and so on. Who answered is in the headers of each form, in the body of JSON,
and in the metadata of Arrow's schema.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from deploy.answering.served import Served
from deploy.bundle import Kind, Prediction
from deploy.formats.finite import finite_list, json_numbers
from deploy.http.asgi import Answer
from deploy.http.media import ARROW, CSV, JSON


def prediction_answer(media: str, served: Served, prediction: Prediction) -> Answer:
    """Returns the answer in the form that was asked for."""
    return _FORMS[media](served, prediction)


def _json(served: Served, prediction: Prediction) -> Answer:
    scores = json_numbers(prediction.scores)
    if served.bundle.schema.kind is Kind.REGRESSION:
        return Answer({"predictions": scores, **served.said})
    return Answer({"predictions": list(prediction.labels), "probabilities": scores, **served.said})


def _csv(served: Served, prediction: Prediction) -> Answer:
    names, columns = _columns(served, prediction)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(names)
    cells = [column if isinstance(column, list) else finite_list(column) for column in columns]
    writer.writerows(zip(*([_shown(cell) for cell in column] for column in cells), strict=True))
    return Answer(body=text.getvalue().encode(), media=f"{CSV}; charset=utf-8")


def _arrow(served: Served, prediction: Prediction) -> Answer:
    import pyarrow as pa  # loaded here: few clients ask for it

    names, columns = _columns(served, prediction)
    lineage = served.bundle.lineage
    said = {"version": str(served.version), "study": lineage.study, "trial": str(lineage.trial)}
    arrays = [pa.array(column) for column in columns]
    batch = pa.RecordBatch.from_arrays(arrays, names=names).replace_schema_metadata(said)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return Answer(body=sink.getvalue().to_pybytes(), media=ARROW)


def _columns(served: Served, prediction: Prediction) -> tuple[list[str], Sequence[Any]]:
    """Returns the names of an answer's columns and their cells: lists of labels, arrays of numbers."""
    schema, scores = served.bundle.schema, prediction.scores
    if schema.kind is Kind.CLASSIFICATION:
        labels = list(prediction.labels)
        if len({type(label) for label in schema.labels}) > 1:  # a column has one type
            labels = [str(label) for label in labels]
        return ["prediction", *(f"probability_{label}" for label in schema.labels)], [labels, *_by_column(scores)]
    if scores.ndim == 1:
        return ["prediction"], [scores]
    return [f"prediction_{j}" for j in range(scores.shape[1])], _by_column(scores)


def _by_column(scores: Any) -> list[Any]:
    return list(np.ascontiguousarray(scores.T))


def _shown(cell: Any) -> Any:
    """Returns a cell as CSV has it: truth values as they are read, numbers as short as float32 allows."""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return str(np.float32(cell)) if isinstance(cell, float) else cell


_FORMS: Mapping[str, Callable[[Served, Prediction], Answer]] = {JSON: _json, CSV: _csv, ARROW: _arrow}

"""Open Inference Protocol v2 over HTTP with JSON tensors (the KServe/Triton "predict v2" REST specification)."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.asgi import Refusal
from deploy.bundle import Kind, Label, Prediction, Schema, Table
from deploy.column_tensors import column_inputs, parse_column_tensors
from deploy.rows import NUMBERS, to_matrix
from deploy.served import Served

DATATYPES = ("FP32", "FP64", "FP16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
PREDICTIONS = "predictions"
PROBABILITIES = "probabilities"


def server_metadata(program_version: str) -> dict[str, Any]:
    """Returns the answer to `GET /v2`."""
    return {"name": "orchestrator", "version": program_version, "extensions": []}


def model_metadata(model: str, served: Served) -> dict[str, Any]:
    """Returns the answer to `GET /v2/models/{model}`."""
    schema = served.bundle.schema
    outputs = [{"name": PREDICTIONS, "datatype": _label_datatype(schema), "shape": [-1]}]
    if schema.kind is Kind.CLASSIFICATION:
        outputs.append({"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, len(schema.labels)]})
    lineage = served.bundle.lineage
    return {
        "name": model,
        "versions": [str(served.version)],
        "platform": "onnx_onnxv1",
        "inputs": column_inputs(schema) if schema.raw else [_row_input(schema)],
        "outputs": outputs,
        "parameters": {
            "study": lineage.study,
            "trial": lineage.trial,
            "columns": list(schema.columns),
            "labels": list(schema.labels),
        },
    }


def _row_input(schema: Schema) -> dict[str, Any]:
    return {"name": schema.input_name, "datatype": "FP32", "shape": [-1, schema.features]}


def parse_inference(
    given: Any, schema: Schema, limit: int
) -> tuple[NDArray[np.float32] | Table, tuple[str, ...], str | None]:
    """Returns the rows (n, features), the names of the wanted outputs and the request's id.

    Raises:
        Refusal: 422 or 413, naming the tensor and what is wrong with it.
    """
    if not isinstance(given, dict):
        raise Refusal(422, 'The body has to be an object: {"inputs": [{name, shape, datatype, data}]}.')
    identity = None if given.get("id") is None else str(given["id"])
    if schema.raw:
        rows = parse_column_tensors(given.get("inputs"), schema, limit)
        return rows, _wanted(given.get("outputs"), schema), identity
    return _parse_tensor(given.get("inputs"), schema, limit), _wanted(given.get("outputs"), schema), identity


def _parse_tensor(inputs: Any, schema: Schema, limit: int) -> NDArray[np.float32]:
    tensor = _only_input(inputs, schema)
    count = _row_count(tensor, schema, limit)
    flat = list(_flatten(tensor.get("data"), depth=2))
    if len(flat) != count * schema.features:
        raise Refusal(
            422, f"The tensor '{schema.input_name}' says shape {tensor['shape']} and has {len(flat)} numbers."
        )
    width = schema.features
    rows = [flat[start : start + width] for start in range(0, len(flat), width)]
    return to_matrix(rows, schema)


def inference_answer(
    model: str, served: Served, prediction: Prediction, wanted: tuple[str, ...], identity: str | None
) -> dict[str, Any]:
    """Returns the answer to an inference request; tensors are flat, in row-major order."""
    schema, lineage = served.bundle.schema, served.bundle.lineage
    answer: dict[str, Any] = {
        "model_name": model,
        "model_version": str(served.version),
        "parameters": {"study": lineage.study, "trial": lineage.trial},
        "outputs": [_output(name, schema, prediction) for name in wanted],
    }
    if identity is not None:
        answer["id"] = identity
    return answer


def _only_input(inputs: Any, schema: Schema) -> dict[str, Any]:
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise Refusal(422, f"Give one input tensor, named '{schema.input_name}', in 'inputs'.")
    tensor: dict[str, Any] = inputs[0]
    if tensor.get("name") != schema.input_name:
        raise Refusal(422, f"The input is named {tensor.get('name')!r}; this model takes '{schema.input_name}'.")
    if tensor.get("datatype") not in DATATYPES:
        raise Refusal(422, f"The datatype {tensor.get('datatype')!r} is not taken; send FP32 (or {DATATYPES[1:]}).")
    return tensor


def _row_count(tensor: dict[str, Any], schema: Schema, limit: int) -> int:
    shape = tensor.get("shape")
    fits = isinstance(shape, list) and len(shape) == 2 and all(type(size) is int for size in shape)
    if not fits or shape[1] != schema.features or shape[0] < 1:  # type: ignore[index]
        raise Refusal(422, f"The tensor has shape {shape!r}; this model takes [n, {schema.features}], n of 1 or more.")
    count = int(shape[0])  # type: ignore[index]
    if count > limit:
        raise Refusal(413, f"There are {count} rows; a request may have {limit}. Send them in several requests.")
    return count


def _flatten(data: Any, depth: int) -> Iterator[float]:
    """Yields the numbers of flat or nested data, in row-major order."""
    if not isinstance(data, list):
        raise Refusal(422, "The tensor's 'data' has to be a list of numbers, flat or nested as its shape.")
    for value in data:
        if type(value) in NUMBERS:
            yield value
        elif depth > 1:
            yield from _flatten(value, depth - 1)
        else:
            raise Refusal(422, f"The tensor's data has {value!r} where a number is needed.")


def _wanted(outputs: Any, schema: Schema) -> tuple[str, ...]:
    known = (PREDICTIONS, PROBABILITIES) if schema.kind is Kind.CLASSIFICATION else (PREDICTIONS,)
    if not outputs:
        return known
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise Refusal(422, "'outputs' has to be a list of objects with a 'name'.")
    names = tuple(str(output.get("name")) for output in outputs)
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise Refusal(422, f"There is no output '{unknown}'; this model gives {', '.join(known)}.")
    return names


def _output(name: str, schema: Schema, prediction: Prediction) -> dict[str, Any]:
    scores = prediction.scores
    if name == PREDICTIONS and schema.kind is Kind.CLASSIFICATION:
        labels = list(prediction.labels)
        data: list[Label] = [str(label) for label in labels] if _label_datatype(schema) == "BYTES" else labels
        return {"name": name, "datatype": _label_datatype(schema), "shape": [len(labels)], "data": data}
    return {"name": name, "datatype": "FP32", "shape": list(scores.shape), "data": finite_list(scores.reshape(-1))}


def finite_list(values: NDArray[np.float32]) -> list[Any]:
    """Returns nested lists, None where a value is not finite: JSON has no word for it."""
    listed: list[Any] = values.tolist()
    return listed if np.isfinite(values).all() else _without_nan(listed)


def _without_nan(values: list[Any]) -> list[Any]:
    return [
        _without_nan(value) if isinstance(value, list) else value if math.isfinite(value) else None for value in values
    ]


def _label_datatype(schema: Schema) -> str:
    if schema.kind is Kind.REGRESSION:
        return "FP32"
    kinds = {type(label) for label in schema.labels}
    if kinds == {bool}:
        return "BOOL"
    return "INT64" if kinds == {int} else "FP64" if kinds <= {int, float} else "BYTES"

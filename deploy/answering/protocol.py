"""Open Inference Protocol v2 ("predict v2" of KServe and Triton): what it says of a model, asks of it and answers.

Over HTTP a request is JSON, and with the binary tensor extension the cells of tensors follow it as bytes: the header
`Inference-Header-Content-Length` says where the JSON ends, and `parameters.binary_data_size` of a tensor how many bytes
are its own, in the order of the tensors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from deploy.answering.served import Served
from deploy.bundle import Kind, Prediction, Schema
from deploy.formats.finite import json_numbers
from deploy.formats.rows import parse_json
from deploy.formats.tensor_rows import Rows, input_tensors, rows_of_tensors
from deploy.formats.tensors import TEXT, TRUTH, Tensor, bytes_of_cells, cells_of_bytes, cells_of_json, tensor_head
from deploy.http.asgi import Answer, Refusal

PREDICTIONS = "predictions"
PROBABILITIES = "probabilities"
PLATFORM = "onnx_onnxv1"
EXTENSIONS = ("binary_tensor_data",)
BINARY_HEADER = b"inference-header-content-length"
# What asks for something that this server does not do; other parameters are hints, and change no answer.
REFUSED_PARAMETERS = ("sequence_id", "sequence_start", "sequence_end", "classification")
SHARED_MEMORY = "shared_memory_region"


@dataclass(frozen=True, slots=True)
class Inference:
    """What is asked: the rows, the outputs by name, those of them as bytes, and the request's own id."""

    rows: Rows
    wanted: tuple[str, ...]
    binary: frozenset[str] = frozenset()
    identity: str | None = None


def server_metadata(program_version: str) -> dict[str, Any]:
    """Returns the answer to `GET /v2`."""
    return {"name": "orchestrator", "version": program_version, "extensions": list(EXTENSIONS)}


def model_metadata(model: str, served: Served) -> dict[str, Any]:
    """Returns the answer to `GET /v2/models/{model}`."""
    schema, lineage = served.bundle.schema, served.bundle.lineage
    return {
        "name": model,
        "versions": [str(served.version)],
        "platform": PLATFORM,
        "inputs": input_tensors(schema),
        "outputs": output_shapes(schema),
        "parameters": {
            "study": lineage.study,
            "trial": lineage.trial,
            "columns": list(schema.columns),
            "labels": list(schema.labels),
        },
    }


def output_shapes(schema: Schema) -> list[dict[str, Any]]:
    """Returns the output tensors of a model; -1 is a size that depends on the request or the model."""
    predictions = {"name": PREDICTIONS, "datatype": _label_datatype(schema), "shape": [-1]}
    if schema.kind is Kind.REGRESSION:
        return [predictions]
    return [predictions, {"name": PROBABILITIES, "datatype": "FP32", "shape": [-1, len(schema.labels)]}]


def parse_inference(body: bytes, header_length: bytes | None, schema: Schema, limit: int) -> Inference:
    """Returns what the body of an inference request asks for.

    Args:
        body: JSON, and the bytes of binary tensors behind it.
        header_length: how many bytes are JSON, as its header says; None where there is no such header.
        schema: what the model takes and gives.
        limit: the most rows that a request may have.

    Raises:
        Refusal: 400, 413 or 422, naming the tensor and what is wrong with it.
    """
    head, rest = _split(body, header_length)
    given = parse_json(head)
    if not isinstance(given, dict):
        raise Refusal(422, 'The body has to be an object: {"inputs": [{name, shape, datatype, data}]}.')
    parameters = _parameters(given, "request")
    rows = rows_of_tensors(_tensors(given.get("inputs"), rest, nulls=bool(schema.raw)), schema, limit)
    wanted, binary = _wanted(given.get("outputs"), schema, parameters.get("binary_data_output") is True)
    return Inference(rows, wanted, binary, None if given.get("id") is None else str(given["id"]))


def output_tensors(schema: Schema, prediction: Prediction, wanted: Sequence[str]) -> list[Tensor]:
    """Returns the outputs asked for; the cells of texts are plain, those of numbers an array of their datatype."""
    return [_output(name, schema, prediction) for name in wanted]


def inference_answer(model: str, served: Served, prediction: Prediction, asked: Inference) -> Answer:
    """Returns the answer to an inference request."""
    lineage = served.bundle.lineage
    tensors = output_tensors(served.bundle.schema, prediction, asked.wanted)
    packed = {
        tensor.name: bytes_of_cells(tensor.datatype, tensor.cells) for tensor in tensors if tensor.name in asked.binary
    }
    answer: dict[str, Any] = {
        "model_name": model,
        "model_version": str(served.version),
        "parameters": {"study": lineage.study, "trial": lineage.trial},
        "outputs": [_output_dict(tensor, packed.get(tensor.name)) for tensor in tensors],
    }
    if asked.identity is not None:
        answer["id"] = asked.identity
    if not packed:
        return Answer(answer)
    head = orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
    body = b"".join([head, *packed.values()])
    return Answer(body=body, media="application/octet-stream", headers=((BINARY_HEADER, str(len(head)).encode()),))


def check_parameters(given: Mapping[str, Any], of: str) -> None:
    """Refuses (422) parameters that ask for what this server does not do; of which part is for the reason."""
    refused = next((name for name in REFUSED_PARAMETERS if given.get(name)), None)
    if refused is not None:
        raise Refusal(422, f"The {of} has the parameter '{refused}'; this server has no such extension.")
    if SHARED_MEMORY in given:
        raise Refusal(422, f"The {of} lies in shared memory; this server takes no shared memory, send the cells.")


def check_outputs(names: Sequence[str], schema: Schema) -> tuple[str, ...]:
    """Returns the outputs asked for, all of them where none is named.

    Raises:
        Refusal: 422 for one that the model does not give, or that is asked for twice.
    """
    known = tuple(str(output["name"]) for output in output_shapes(schema))
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise Refusal(422, f"There is no output '{unknown}'; this model gives {', '.join(known)}.")
    if len(set(names)) != len(names):
        raise Refusal(422, f"An output is asked for twice: {', '.join(names)}.")
    return tuple(names) or known


def _split(body: bytes, header_length: bytes | None) -> tuple[bytes, memoryview]:
    if header_length is None:
        return body, memoryview(b"")
    if not header_length.isdigit() or int(header_length) > len(body):
        raise Refusal(
            400,
            f"Inference-Header-Content-Length is {header_length.decode('latin-1')!r}; it says how many of the body's "
            f"{len(body)} bytes are JSON.",
        )
    length = int(header_length)
    return body[:length], memoryview(body)[length:]


def _tensors(inputs: Any, rest: memoryview, *, nulls: bool) -> list[Tensor]:
    if not isinstance(inputs, list) or not inputs or not all(isinstance(given, dict) for given in inputs):
        raise Refusal(422, "Give the input tensors in 'inputs': a list of objects {name, shape, datatype, data}.")
    tensors = []
    for given in inputs:
        name, datatype, shape = tensor_head(given)
        parameters = _parameters(given, f"tensor '{name}'")
        if "binary_data_size" in parameters:
            own, rest = _own_bytes(given, name, parameters["binary_data_size"], rest)
            tensors.append(Tensor(name, datatype, shape, cells_of_bytes(name, datatype, own)))
        else:
            cells = cells_of_json(name, datatype, given.get("data"), nulls=nulls)
            tensors.append(Tensor(name, datatype, shape, cells))
    if len(rest):
        raise Refusal(400, f"The body has {len(rest)} bytes more than its tensors say (binary_data_size).")
    return tensors


def _own_bytes(given: Mapping[str, Any], name: str, size: Any, rest: memoryview) -> tuple[bytes, memoryview]:
    if "data" in given:
        raise Refusal(422, f"The tensor '{name}' has 'data' and 'binary_data_size'; give one of them.")
    if type(size) is not int or not 0 <= size <= len(rest):
        raise Refusal(422, f"The tensor '{name}' has binary_data_size {size!r}; {len(rest)} bytes are left for it.")
    return bytes(rest[:size]), rest[size:]


def _parameters(given: Mapping[str, Any], of: str) -> Mapping[str, Any]:
    parameters = given.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise Refusal(422, f"The parameters of the {of} have to be an object.")
    check_parameters(parameters, of)
    return parameters


def _wanted(outputs: Any, schema: Schema, all_binary: bool) -> tuple[tuple[str, ...], frozenset[str]]:
    if not outputs:
        names = check_outputs((), schema)
        return names, frozenset(names if all_binary else ())
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise Refusal(422, "'outputs' has to be a list of objects with a 'name'.")
    names = check_outputs([str(output.get("name")) for output in outputs], schema)
    asked = (_parameters(output, f"output '{name}'") for name, output in zip(names, outputs, strict=True))
    binary = (parameters.get("binary_data", all_binary) is True for parameters in asked)
    return names, frozenset(name for name, is_binary in zip(names, binary, strict=True) if is_binary)


def _output(name: str, schema: Schema, prediction: Prediction) -> Tensor:
    if name == PREDICTIONS and schema.kind is Kind.CLASSIFICATION:
        datatype, labels = _label_datatype(schema), list(prediction.labels)
        return Tensor(name, datatype, (len(labels),), [str(label) for label in labels] if datatype == TEXT else labels)
    scores = prediction.scores
    return Tensor(name, "FP32", scores.shape, scores.reshape(-1))


def _output_dict(tensor: Tensor, packed: bytes | None) -> dict[str, Any]:
    head = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
    if packed is not None:
        return {**head, "parameters": {"binary_data_size": len(packed)}}
    cells = tensor.cells
    return {**head, "data": json_numbers(cells) if isinstance(cells, np.ndarray) else list(cells)}


def _label_datatype(schema: Schema) -> str:
    if schema.kind is Kind.REGRESSION:
        return "FP32"
    kinds = {type(label) for label in schema.labels}
    if kinds == {bool}:
        return TRUTH
    return "INT64" if kinds == {int} else "FP64" if kinds <= {int, float} else TEXT

"""The messages of the Open Inference Protocol over gRPC, to what is asked and from what is answered.

A tensor's cells come in `contents`, in the field of its datatype, or as bytes in `raw_input_contents`, for all tensors
of a request alike; the answer goes as the request came.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from deploy.answering.open_inference_pb2 import (
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataResponse,
)
from deploy.answering.protocol import Inference, check_outputs, check_parameters, model_metadata, output_tensors
from deploy.answering.served import Served
from deploy.bundle import Prediction, Schema
from deploy.formats.tensor_rows import rows_of_tensors
from deploy.formats.tensors import (
    DATATYPES,
    DTYPES,
    TEXT,
    TRUTH,
    Cells,
    Tensor,
    bytes_of_cells,
    cells_of_bytes,
    check_range,
    text_of,
)
from deploy.http.asgi import Refusal

FIELDS: Mapping[str, str] = {
    TRUTH: "bool_contents",
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    "INT64": "int64_contents",
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    TEXT: "bytes_contents",
}


def parse_request(request: ModelInferRequest, schema: Schema, limit: int) -> Inference:
    """Returns what a request asks for; its outputs are binary where its inputs came raw.

    Raises:
        Refusal: 413 or 422, naming the tensor and what is wrong with it.
    """
    check_parameters(_plain(request.parameters), "request")
    raw = list(request.raw_input_contents)
    if raw and len(raw) != len(request.inputs):
        raise Refusal(422, f"There are {len(raw)} raw_input_contents for {len(request.inputs)} inputs; give one each.")
    if not request.inputs:
        raise Refusal(422, "Give the input tensors in 'inputs'.")
    tensors = [_tensor(given, raw[place] if raw else None) for place, given in enumerate(request.inputs)]
    rows = rows_of_tensors(tensors, schema, limit)
    for output in request.outputs:
        check_parameters(_plain(output.parameters), f"output '{output.name}'")
    wanted = check_outputs([output.name for output in request.outputs], schema)
    return Inference(rows, wanted, frozenset(wanted if raw else ()), request.id or None)


def infer_response(model: str, served: Served, prediction: Prediction, asked: Inference) -> ModelInferResponse:
    """Returns the answer to an inference request."""
    lineage = served.bundle.lineage
    answer = ModelInferResponse(model_name=model, model_version=str(served.version), id=asked.identity or "")
    answer.parameters["study"].string_param = lineage.study
    answer.parameters["trial"].int64_param = lineage.trial
    for tensor in output_tensors(served.bundle.schema, prediction, asked.wanted):
        output = answer.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        if asked.binary:
            answer.raw_output_contents.append(bytes_of_cells(tensor.datatype, tensor.cells))
        else:
            output.contents.CopyFrom(_contents(tensor))
    return answer


def metadata_response(model: str, served: Served) -> ModelMetadataResponse:
    """Returns what the model takes and gives."""
    said = model_metadata(model, served)
    return ModelMetadataResponse(
        name=said["name"],
        versions=said["versions"],
        platform=said["platform"],
        inputs=_shapes(said["inputs"]),
        outputs=_shapes(said["outputs"]),
    )


def _tensor(given: ModelInferRequest.InferInputTensor, raw: bytes | None) -> Tensor:
    name, datatype = given.name, given.datatype
    check_parameters(_plain(given.parameters), f"tensor '{name}'")
    if datatype not in DATATYPES:
        raise Refusal(422, f"The tensor '{name}' has datatype {datatype!r}; known are {', '.join(DATATYPES)}.")
    if any(size < 0 for size in given.shape):
        raise Refusal(422, f"The tensor '{name}' has shape {list(given.shape)}; a size is 0 or more.")
    if raw is not None and given.contents.ListFields():
        raise Refusal(422, f"The tensor '{name}' has contents and raw_input_contents; give one of them.")
    cells = _cells_of(given.contents, name, datatype) if raw is None else cells_of_bytes(name, datatype, raw)
    return Tensor(name, datatype, tuple(given.shape), cells)


def _cells_of(contents: InferTensorContents, name: str, datatype: str) -> Cells:
    field = FIELDS.get(datatype)
    if field is None:
        raise Refusal(422, f"The tensor '{name}' of datatype {datatype} has to come in raw_input_contents.")
    other = next((found.name for found, _ in contents.ListFields() if found.name != field), None)
    if other is not None:
        raise Refusal(422, f"The tensor '{name}' of datatype {datatype} has its cells in '{other}'; use '{field}'.")
    cells: Sequence[Any] = list(getattr(contents, field))
    if datatype == TEXT:
        return [text_of(name, cell) for cell in cells]
    if "INT" in datatype:
        check_range(name, datatype, cells)
    return np.array(cells, dtype=DTYPES[datatype])


def _contents(tensor: Tensor) -> InferTensorContents:
    cells = tensor.cells.tolist() if isinstance(tensor.cells, np.ndarray) else tensor.cells
    contents = InferTensorContents()
    given = [str(cell).encode() for cell in cells] if tensor.datatype == TEXT else cells
    getattr(contents, FIELDS[tensor.datatype]).extend(given)
    return contents


def _shapes(tensors: Iterable[Mapping[str, Any]]) -> list[ModelMetadataResponse.TensorMetadata]:
    return [
        ModelMetadataResponse.TensorMetadata(name=said["name"], datatype=said["datatype"], shape=said["shape"])
        for said in tensors
    ]


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: getattr(given, given.WhichOneof("parameter_choice") or "", None) for name, given in parameters.items()
    }

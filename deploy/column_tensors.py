"""Raw rows in the Open Inference Protocol: one tensor a column, shape [n] or [n, 1].

The protocol has no word for a missing value: a `null` in a tensor's data is ours, and only for columns that may be
missing.
"""

from typing import Any

from deploy.asgi import Refusal
from deploy.bundle import ColumnKind, Schema, Table
from deploy.rows import to_table
from orchestrator.domain.errors import did_you_mean

DATATYPES = {
    ColumnKind.NUMBER: ("FP32", "FP64", "FP16", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32"),
    ColumnKind.CATEGORY: ("BYTES",),
    ColumnKind.BOOL: ("BOOL",),
    ColumnKind.DATE: ("BYTES",),
}


def column_inputs(schema: Schema) -> list[dict[str, Any]]:
    """Returns the input tensors of a model that takes raw rows, with what is known of each column."""
    return [
        {
            "name": column.name,
            "datatype": DATATYPES[column.kind][0],
            "shape": [-1],
            "parameters": {key: value for key, value in column.to_dict().items() if key != "name"},
        }
        for column in schema.raw
    ]


def parse_column_tensors(inputs: Any, schema: Schema, limit: int) -> Table:
    """Returns the rows of one tensor a column, in any order.

    Raises:
        Refusal: 422 or 413, naming the tensor and what is wrong with it.
    """
    tensors = _by_name(inputs, schema)
    columns = []
    for column in schema.raw:
        tensor = tensors.get(column.name)
        if tensor is None:
            raise Refusal(422, f"There is no tensor '{column.name}'; this model takes one for each column.")
        if tensor.get("datatype") not in DATATYPES[column.kind]:
            known = DATATYPES[column.kind][0]
            raise Refusal(422, f"The tensor '{column.name}' has datatype {tensor.get('datatype')!r}; send {known}.")
        columns.append(_cells(tensor, column.name, limit))
    sizes = {len(cells) for cells in columns}
    if len(sizes) != 1:
        raise Refusal(422, f"The tensors have {' and '.join(map(str, sorted(sizes)))} rows; give each as many.")
    return to_table(list(zip(*columns, strict=True)), schema)


def _by_name(inputs: Any, schema: Schema) -> dict[str, dict[str, Any]]:
    if not isinstance(inputs, list) or not all(isinstance(tensor, dict) for tensor in inputs):
        raise Refusal(422, "Give the input tensors in 'inputs': a list of objects, one for each column.")
    tensors = {str(tensor.get("name")): tensor for tensor in inputs}
    if len(tensors) != len(inputs):
        raise Refusal(422, "Two tensors have the same name; give one for each column.")
    unknown = next((name for name in tensors if name not in schema.columns), None)
    if unknown is not None:
        raise Refusal(422, f"There is no column '{unknown}' for the tensor.{did_you_mean(unknown, schema.columns)}")
    return tensors


def _cells(tensor: dict[str, Any], name: str, limit: int) -> list[Any]:
    shape, data = tensor.get("shape"), tensor.get("data")
    fits = isinstance(shape, list) and len(shape) in (1, 2) and all(type(size) is int for size in shape)
    if not fits or shape[0] < 1 or shape[1:] not in ([], [1]):  # type: ignore[index]
        raise Refusal(422, f"The tensor '{name}' has shape {shape!r}; give [n], n of 1 or more.")
    if shape[0] > limit:  # type: ignore[index]
        raise Refusal(413, f"There are {shape[0]} rows; a request may have {limit}. Send several.")  # type: ignore[index]
    if not isinstance(data, list):
        raise Refusal(422, f"The tensor '{name}' needs 'data': a list.")
    cells = [cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for cell in data]
    if len(cells) != shape[0]:  # type: ignore[index]
        raise Refusal(422, f"The tensor '{name}' says shape {shape} and has {len(cells)} cells.")
    return cells

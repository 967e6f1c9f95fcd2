"""From tensors to rows: one tensor (n, features) for a model of numbers, one tensor a column for one of raw rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import ColumnKind, Schema, Table
from deploy.formats.rows import to_matrix, to_table, too_many_rows
from deploy.formats.tensors import NUMBERS, TEXT, TRUTH, Tensor
from deploy.http.asgi import Refusal
from orchestrator.domain.errors import did_you_mean

Rows = NDArray[np.float32] | Table

DATATYPES: Mapping[ColumnKind, tuple[str, ...]] = {
    ColumnKind.NUMBER: ("FP32", *(name for name in NUMBERS if name != "FP32")),
    ColumnKind.CATEGORY: (TEXT,),
    ColumnKind.BOOL: (TRUTH,),
    ColumnKind.DATE: (TEXT,),
}


def input_tensors(schema: Schema) -> list[dict[str, Any]]:
    """Returns the input tensors of a model, with what is known of each raw column."""
    if not schema.raw:
        return [{"name": schema.input_name, "datatype": "FP32", "shape": [-1, schema.features]}]
    return [
        {
            "name": column.name,
            "datatype": DATATYPES[column.kind][0],
            "shape": [-1],
            "parameters": {key: value for key, value in column.to_dict().items() if key != "name"},
        }
        for column in schema.raw
    ]


def rows_of_tensors(tensors: Sequence[Tensor], schema: Schema, limit: int) -> Rows:
    """Returns the rows of a request's tensors, which may be in any order.

    Raises:
        Refusal: 422 or 413 (more than `limit` rows), naming the tensor and what is wrong with it.
    """
    return _table(tensors, schema, limit) if schema.raw else _matrix(tensors, schema, limit)


def _matrix(tensors: Sequence[Tensor], schema: Schema, limit: int) -> NDArray[np.float32]:
    if len(tensors) != 1:
        raise Refusal(422, f"Give one input tensor, named '{schema.input_name}', in 'inputs'.")
    (tensor,) = tensors
    if tensor.name != schema.input_name:
        raise Refusal(422, f"The input is named {tensor.name!r}; this model takes '{schema.input_name}'.")
    if tensor.datatype not in NUMBERS:
        raise Refusal(422, f"The tensor '{tensor.name}' has datatype {tensor.datatype!r}; send FP32.")
    if len(tensor.shape) != 2 or tensor.shape[1] != schema.features or tensor.shape[0] < 1:
        wanted = f"[n, {schema.features}], n of 1 or more"
        raise Refusal(422, f"The tensor '{tensor.name}' has shape {list(tensor.shape)}; this model takes {wanted}.")
    _check_size(tensor, limit)
    return to_matrix(np.asarray(tensor.cells, dtype=np.float64).reshape(tensor.shape), schema)


def _table(tensors: Sequence[Tensor], schema: Schema, limit: int) -> Table:
    named = {tensor.name: tensor for tensor in tensors}
    if len(named) != len(tensors):
        raise Refusal(422, "Two tensors have the same name; give one for each column.")
    unknown = next((name for name in named if name not in schema.columns), None)
    if unknown is not None:
        raise Refusal(422, f"There is no column '{unknown}' for the tensor.{did_you_mean(unknown, schema.columns)}")
    columns = []
    for column in schema.raw:
        tensor = named.get(column.name)
        if tensor is None:
            raise Refusal(422, f"There is no tensor '{column.name}'; this model takes one for each column.")
        columns.append(_column(tensor, DATATYPES[column.kind], limit))
    sizes = {len(cells) for cells in columns}
    if len(sizes) != 1:
        raise Refusal(422, f"The tensors have {' and '.join(map(str, sorted(sizes)))} rows; give each as many.")
    return to_table(list(zip(*columns, strict=True)), schema)


def _column(tensor: Tensor, datatypes: Sequence[str], limit: int) -> Sequence[Any]:
    if tensor.datatype not in datatypes:
        raise Refusal(422, f"The tensor '{tensor.name}' has datatype {tensor.datatype!r}; send {datatypes[0]}.")
    shape = tensor.shape
    if not shape or shape[0] < 1 or shape[1:] not in ((), (1,)):
        raise Refusal(422, f"The tensor '{tensor.name}' has shape {list(shape)}; give [n], n of 1 or more.")
    _check_size(tensor, limit)
    cells: Sequence[Any] = tensor.cells.tolist() if isinstance(tensor.cells, np.ndarray) else tensor.cells
    return cells


def _check_size(tensor: Tensor, limit: int) -> None:
    if tensor.shape[0] > limit:
        raise too_many_rows(tensor.shape[0], limit)
    tensor.check_count()

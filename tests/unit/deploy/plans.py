"""A model of raw rows whose answer shows each column, and a way to ask an application without a server."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.served import ModelSlot, Served
from deploy.bundle import (
    Bundle,
    CategoryStep,
    Column,
    ColumnKind,
    Encoding,
    Kind,
    Lineage,
    NumberStep,
    Schema,
    Table,
    TableEncoder,
    write_bundle,
)

AGE = Column("age", ColumnKind.NUMBER, nullable=True)
PLAN = Column("plan", ColumnKind.CATEGORY, levels=("basic", "pro"))
PAID = Column("paid", ColumnKind.BOOL)
COLUMNS = (AGE, PLAN, PAID)
SCHEMA = Schema(("age", "plan", "paid"), Kind.REGRESSION, raw=COLUMNS)
ENCODER = TableEncoder(
    COLUMNS,
    (
        NumberStep("age", fill=10.0),
        CategoryStep("plan", Encoding.ORDINAL, ("basic", "pro"), (0.5, 0.5, 0.0, 0.0)),
        NumberStep("paid"),
    ),
)
RECORD = {"age": 3, "plan": "pro", "paid": True}
Ask = Callable[..., httpx.Response]


def sum_model() -> bytes:
    """A model whose answer is age + 100 · plan's place + 1000 · paid, so that each column is seen in it."""
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.array([[1], [100], [1000]], dtype=np.float32), "weights")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["rows", "weights"], ["values"])],
        "sum",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("values", TensorProto.FLOAT, ["n", 1])],
        [weights],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


def write(place: Path, **changed: Any) -> Path:
    given = {
        "onnx_model": sum_model(),
        "schema": SCHEMA,
        "lineage": Lineage("plans", 4, 5),
        "sample_rows": Table.of_rows(COLUMNS, [RECORD, {"age": None, "plan": "basic", "paid": False}]),
        "encoder": ENCODER,
    }
    return write_bundle(place, **{**given, **changed})


def asker(bundle: Bundle, model: str, **settings: Any) -> Ask:
    """Returns what asks an endpoint with that model; it has the token."""
    slot = ModelSlot()
    slot.put(Served(bundle, version=1, generation=1))
    app: Any = EndpointApp(AppSettings(model=model, token="secret", **{"max_rows": 8, **settings}), slot)

    async def send(method: str, path: str, **given: Any) -> httpx.Response:
        headers = {"authorization": "Bearer secret", **given.pop("headers", {})}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://endpoint", headers=headers) as client:
            return await client.request(method, path, **given)

    return lambda method, path, **given: asyncio.run(send(method, path, **given))

"""Whatever is sent, it is answered, or refused with a reason: never a 5xx. What is nearly right is what hurts."""

import asyncio
import json
from pathlib import Path
from typing import Any

import grpc
import httpx
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plans import COLUMNS, Ask, asker, write

from deploy.answering import open_inference_pb2 as messages
from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.grpc_service import GrpcService
from deploy.answering.served import ModelSlot, Served
from deploy.answering.shared_app import SharedApp
from deploy.bundle import Bundle

MANY = settings(max_examples=150, suppress_health_check=list(HealthCheck), derandomize=True)

names = st.one_of(st.sampled_from([column.name for column in COLUMNS]), st.just("rows"), st.text(max_size=5))
odd = st.sampled_from([-1, 1e39, 2**63, 2**70, 10**400, 1e308, "pro", "NaN", "2026-02-30", "\x00", "ж"])
cells = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=6), odd)
anything = st.recursive(
    cells, lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)), max_leaves=9
)
records = st.lists(st.one_of(st.dictionaries(names, anything, max_size=4), st.lists(anything, max_size=4)), max_size=9)
columns = st.dictionaries(names, st.one_of(st.lists(cells, max_size=4), anything), max_size=4)
forms = st.one_of(
    anything,
    records,
    st.fixed_dictionaries({}, optional={"rows": records, "columns": columns, "key": cells, "odd": cells}),
)
datatypes = st.sampled_from(["FP32", "FP64", "FP16", "INT8", "INT64", "UINT64", "BYTES", "BOOL", "odd", None, 3])
shapes = st.one_of(anything, st.lists(st.integers(-1, 9), max_size=3))
parameters = st.one_of(
    anything,
    st.dictionaries(
        st.sampled_from(["binary_data_size", "binary_data", "binary_data_output", "sequence_id", "odd"]),
        st.one_of(cells, st.integers(0, 40)),
        max_size=2,
    ),
)
tensors = st.fixed_dictionaries(
    {"name": names, "datatype": datatypes, "shape": shapes},
    optional={"data": st.one_of(st.lists(cells, max_size=6), anything), "parameters": parameters},
)
inferences = st.fixed_dictionaries(
    {"inputs": st.one_of(st.lists(tensors, max_size=4), anything)},
    optional={"outputs": anything, "parameters": parameters, "id": anything},
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path: Path = write(tmp_path_factory.mktemp("plans") / "bundle")
    return Bundle.open(path)


@pytest.fixture(scope="module")
def ask(bundle: Bundle) -> Ask:
    return asker(bundle, "plans", max_body_bytes=20_000)


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, answer.text
    assert answer.status_code == 200 or answer.json()["error"]


@MANY
@given(body=forms)
def test_rows_in_json(ask: Ask, body: Any) -> None:
    check(ask("POST", "/predict", content=json.dumps(body)))


@MANY
@given(body=inferences, tail=st.binary(max_size=40), skew=st.sampled_from([None, 0, 0, 0, 1, -1, -9999]))
def test_tensors_in_json_and_bytes(ask: Ask, body: Any, tail: bytes, skew: int | None) -> None:
    head = json.dumps(body).encode()
    headers = {} if skew is None else {"inference-header-content-length": str(len(head) + skew)}
    check(ask("POST", "/v2/models/plans/infer", content=head + tail, headers=headers))


@MANY
@given(lines=st.lists(st.lists(st.one_of(names, cells.map(str)), max_size=4), max_size=5), end=st.binary(max_size=4))
def test_rows_in_csv(ask: Ask, lines: list[list[str]], end: bytes) -> None:
    text = "\n".join(["age,plan,paid", *(",".join(line) for line in lines)])
    for body in (text.encode(errors="replace") + end, text.partition("\n")[2].encode(errors="replace") + end):
        check(ask("POST", "/predict", content=body, headers={"content-type": "text/csv"}))


@MANY
@given(body=st.binary(max_size=300), media=st.text(max_size=30), accept=st.text(max_size=30))
def test_bytes_of_any_kind(ask: Ask, body: bytes, media: str, accept: str) -> None:
    for kind in ("application/json", "text/csv", "application/vnd.apache.arrow.stream", media):
        headers = {"content-type": kind.encode(), "accept": accept.encode(errors="replace")}
        check(ask("POST", "/predict", content=body, headers=headers))


arrays = st.one_of(
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=4).map(lambda c: pa.array(c, pa.int64())),
    st.lists(st.one_of(st.none(), st.floats()), max_size=4).map(lambda c: pa.array(c, pa.float64())),
    st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=4).map(lambda c: pa.array(c, pa.string())),
    st.lists(st.one_of(st.none(), st.text(max_size=4)), max_size=4).map(
        lambda c: pa.array(c, pa.string()).dictionary_encode()
    ),
    st.lists(st.one_of(st.none(), st.booleans()), max_size=4).map(lambda c: pa.array(c, pa.bool_())),
    st.lists(st.one_of(st.none(), st.dates()), max_size=4).map(lambda c: pa.array(c, pa.date32())),
    st.lists(st.lists(st.integers(0, 3), max_size=2), max_size=4).map(lambda c: pa.array(c, pa.list_(pa.int8()))),
)


@MANY
@given(found=st.lists(st.tuples(names, arrays), max_size=4), place=st.integers(0, 10**6), flip=st.integers(0, 255))
def test_rows_in_arrow(ask: Ask, found: list[tuple[str, pa.Array]], place: int, flip: int) -> None:
    size = min((len(array) for _, array in found), default=0)
    table = pa.Table.from_arrays([array[:size] for _, array in found], names=[name for name, _ in found])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body = bytearray(sink.getvalue().to_pybytes())
    body[place % len(body)] ^= flip  # 0 leaves it whole
    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    check(ask("POST", "/predict", content=bytes(body), headers=headers))


class Context:
    """What a call has of gRPC; keeps its status."""

    code: grpc.StatusCode | None = None
    details = ""

    def peer(self) -> str:
        return "ipv4:127.0.0.1:4711"

    def invocation_metadata(self) -> Any:
        return (("authorization", "Bearer secret"),)

    def set_code(self, code: grpc.StatusCode) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details


grpc_tensors = st.builds(
    messages.ModelInferRequest.InferInputTensor,
    name=st.sampled_from(["age", "plan", "paid", "odd"]),
    datatype=st.sampled_from(["FP32", "INT8", "BYTES", "BOOL", "FP16", "odd"]),
    shape=st.lists(st.integers(-1, 9), max_size=3),
    contents=st.builds(
        messages.InferTensorContents,
        fp32_contents=st.lists(st.floats(width=32), max_size=3),
        int_contents=st.lists(st.integers(-(2**31), 2**31 - 1), max_size=2),
        bytes_contents=st.lists(st.binary(max_size=4), max_size=3),
        bool_contents=st.lists(st.booleans(), max_size=3),
    ),
)


@MANY
@given(
    inputs=st.lists(grpc_tensors, max_size=4),
    raw=st.one_of(st.just([]), st.lists(st.binary(max_size=12), max_size=4)),
    outputs=st.lists(st.sampled_from(["predictions", "odd"]), max_size=2),
)
def test_messages_over_grpc(bundle: Bundle, inputs: list[Any], raw: list[bytes], outputs: list[str]) -> None:
    service, context = GrpcService(), Context()
    slot = ModelSlot()
    slot.put(Served(bundle, version=1, generation=1))
    service._is_private = True
    service._app = SharedApp(EndpointApp(AppSettings("plans", "secret", max_rows=8), slot))
    asked = messages.ModelInferRequest(model_name="plans", inputs=inputs, raw_input_contents=raw)
    for name in outputs:
        asked.outputs.add(name=name)
    asyncio.run(service.ModelInfer(asked, context))
    assert context.code in (None, grpc.StatusCode.INVALID_ARGUMENT), context.details
    assert context.code is None or context.details

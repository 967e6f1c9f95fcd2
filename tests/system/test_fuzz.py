"""Thousands of requests that are wrong, on both protocols of real endpoints: no 5xx, no hang, nobody dies of it.

`FUZZ_SEED=… FUZZ_CASES=… pytest tests/system/test_fuzz.py` draws others, or more or fewer of a kind.
"""

import http.client
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pytest

from deploy.answering import open_inference_pb2 as messages
from deploy.formats.tensors import DTYPES, LENGTH
from deploy.http.media import ARROW, CSV, JSON

sys.path.insert(0, str(Path(__file__).parent))

from fuzzed_endpoints import PATIENCE_SECONDS, SEED, Target, answers_well, serving_targets, unharmed
from mutations import ODD_DATATYPES, ODD_SHAPES, ODD_SIZES, Mutator
from raw_http import conversations, converse

pytestmark = [pytest.mark.system, pytest.mark.usefixtures("ray_session")]

CASES = int(os.environ.get("FUZZ_CASES", "400"))  # of a kind
CODES = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@pytest.fixture(scope="module")
def targets(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Target]]:
    with serving_targets(tmp_path_factory.mktemp("bundles"), tmp_path_factory.mktemp("runs")) as found:
        yield found


@pytest.fixture(params=["churn", "digits"])
def target(request: pytest.FixtureRequest, targets: dict[str, Target]) -> Iterator[Target]:
    with unharmed(targets[request.param]) as found:
        yield found


class Http:
    """Sends what is framed well, whatever it holds; counts statuses, keeps what broke the law."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._connection = self._connect()
        self.statuses: Counter[int] = Counter()
        self.broken: list[Any] = []
        self.slowest = 0.0

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._target.address.port, timeout=PATIENCE_SECONDS)

    def send(self, path: str, body: bytes, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named["authorization"] = f"Bearer {self._target.address.token}"
        began = time.monotonic()
        try:
            self._connection.request("POST", self._target.prefix + path, body, named)
            answer = self._connection.getresponse()
            said, status = answer.read(), answer.status
        except (OSError, http.client.HTTPException) as error:
            self.broken.append((repr(error), path, headers, body[:300]))
            self._connection.close()
            return
        self.slowest = max(self.slowest, time.monotonic() - began)
        self.statuses[status] += 1
        is_reasoned = status < 400 or bool(json.loads(said).get("error"))
        if status >= 500 or not is_reasoned:
            self.broken.append((status, said[:300], path, headers, body[:300]))

    def close(self) -> None:
        self._connection.close()


def tensors_case(target: Target, draw: Mutator) -> tuple[bytes, dict[str, str]]:
    """Tensors as JSON, or some of them as bytes behind it, whose sizes and lengths may lie."""
    chance, asked = draw.chance, {"id": "a request", "inputs": target.tensors(), "outputs": [{"name": "predictions"}]}
    tail = b""
    for tensor in asked["inputs"]:
        if chance.random() < 0.5:
            packed = pack(tensor)
            tail += packed
            del tensor["data"]
            tensor["parameters"] = {"binary_data_size": len(packed)}
    for tensor in chance.sample(asked["inputs"], 1):
        match chance.randrange(5):
            case 0:
                tensor["shape"] = chance.choice(ODD_SHAPES)
            case 1:
                tensor["datatype"] = chance.choice(ODD_DATATYPES)
            case 2:
                tensor.setdefault("parameters", {})["binary_data_size"] = chance.choice(ODD_SIZES)
            case 3:
                tail = draw.of_bytes(tail)
            case _:
                asked = draw.of_tree(asked)
    head = draw.to_json(asked)
    if not tail and chance.random() < 0.7:
        return head, {}
    skew = chance.choice([0, 0, 0, 0, 1, -1, 10**6, -(10**6)])
    length = chance.choice([str(len(head) + skew)] * 9 + ["", "x", "1e3", "9" * 40, "²"])
    return head + tail, {"Inference_Header_Content_Length": length}


def pack(tensor: dict[str, Any]) -> bytes:
    """The cells of a tensor as bytes; a missing text has no other form than none."""
    cells = np.asarray(tensor["data"], dtype=object).reshape(-1).tolist()
    if tensor["datatype"] == "BYTES":
        texts = [str(cell or "").encode() for cell in cells]
        return b"".join(LENGTH.pack(len(text)) + text for text in texts)
    filled = [np.nan if cell is None else cell for cell in cells]
    return np.asarray(filled, dtype=DTYPES[tensor["datatype"]]).tobytes()


def rows_case(target: Target, draw: Mutator) -> tuple[bytes, dict[str, str]]:
    """Rows as JSON in one of their forms, with something wrong in it."""
    columns = {name: [row[j] for row in target.rows] for j, name in enumerate(target.names)}
    forms = [{"rows": target.records}, {"rows": target.rows}, target.records, target.rows, {"columns": columns}]
    form = draw.chance.choice([*forms, {"rows": target.rows, "key": "a"}, {"rows": target.rows, "columns": columns}])
    return draw.to_json(draw.of_tree(form)), {"Content_Type": JSON, "Accept": draw.chance.choice(["*/*", CSV, ARROW])}


def csv_case(target: Target, draw: Mutator) -> tuple[bytes, dict[str, str]]:
    """CSV with bytes replaced, or a field that is odd."""
    lines = [list(target.names), *([("" if cell is None else str(cell)) for cell in row] for row in target.rows)]
    lines = draw.of_tree(lines) if draw.chance.random() < 0.5 else lines
    text = "\n".join(",".join(map(str, line)) if isinstance(line, list) else str(line) for line in lines)
    return draw.of_bytes(text.encode("utf-8", "surrogatepass")), {"Content_Type": CSV, "Accept": CSV}


def arrow_case(target: Target, draw: Mutator) -> tuple[bytes, dict[str, str]]:
    """An Arrow stream with bytes of its heads or buffers replaced."""
    chance, table = draw.chance, target.table()
    if chance.random() < 0.3:
        texts = [i for i, field in enumerate(table.schema) if pa.types.is_string(field.type)]
        for i in texts:
            kind = chance.choice([pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
            cells = table.column(i).combine_chunks()
            cells = cells.dictionary_encode() if pa.types.is_dictionary(kind) else cells.cast(kind)
            table = table.set_column(i, table.schema.names[i], cells)
    sink = pa.BufferOutputStream()
    codec = chance.choice([None] * 9 + ["zstd"])
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        for _ in range(chance.choice([1, 1, 2])):
            writer.write_table(table, max_chunksize=2)
    kinds = [ARROW] * 5 + [JSON, CSV]
    return draw.of_bytes(sink.getvalue().to_pybytes()), {"Content_Type": chance.choice(kinds), "Accept": ARROW}


def wishes_case(target: Target, draw: Mutator) -> tuple[bytes, dict[str, str]]:
    """A decision by hand or a label, with something wrong in it."""
    wishes = (
        {"version": 1, "why": "it is fine"},
        {"endpoint": target.trained.name, "version": 1},
        {"why": "a holiday"},
        {"id": "WzEsMCwiYSIsWzFdXQ", "label": 1},
        [{"id": "WzEsMCwiYSIsWzFdXQ", "label": [1, 2]}],
    )
    return draw.to_json(draw.of_tree(draw.chance.choice(wishes))), {"Content_Type": JSON}


Case = Callable[[Target, Mutator], tuple[bytes, dict[str, str]]]
CASES_OF = [tensors_case, rows_case, csv_case, arrow_case, wishes_case]
WISHES = ("/feedback", *(f"/admin/{action}" for action in ("promote", "rollback", "freeze", "unfreeze", "nothing")))


def path_of(case: Case, target: Target, draw: Mutator) -> str:
    if case is wishes_case:
        return draw.chance.choice(WISHES)
    return target.infer if case is tensors_case else "/predict"


@pytest.mark.parametrize("case", CASES_OF, ids=lambda case: case.__name__[:-5])
def test_bodies_that_are_nearly_right(target: Target, case: Case) -> None:
    client, draw = Http(target), Mutator(f"{SEED} {target.trained.name} {case.__name__}")
    for _ in range(CASES):
        body, headers = case(target, draw)
        client.send(path_of(case, target, draw), body, **headers)
    client.close()
    print(f"FUZZ_SEED={SEED}: {CASES} cases, {dict(client.statuses)}, the slowest {1000 * client.slowest:.0f} ms")
    assert client.broken == []
    assert client.statuses[200] < CASES, "something is wrong with most of them"


def test_http_that_is_no_http(target: Target) -> None:
    draw, address = Mutator(SEED), target.address
    body = json.dumps({"rows": target.records}).encode()
    statuses: Counter[int] = Counter()
    broken, slowest = [], 0.0
    every = list(conversations(target.prefix, address.token, body, draw.chance))
    with ThreadPoolExecutor(16) as pool:
        all_heard = list(pool.map(lambda said: converse("127.0.0.1", address.port, said, PATIENCE_SECONDS), every))
    for said, heard in zip(every, all_heard, strict=True):
        statuses.update(heard.statuses)
        slowest = max(slowest, heard.seconds)
        is_whole = said.answers is None or heard.statuses == [200] * said.answers
        if not is_whole or any(status >= 500 for status in heard.statuses) or heard.seconds >= PATIENCE_SECONDS:
            broken.append((said.what, heard.statuses, round(heard.seconds, 1), heard.content[:200]))
    count = f"{len(every)} conversations, {statuses.total()} answers"
    print(f"{count}, {dict(statuses)}, the slowest conversation {slowest:.1f} s")
    assert broken == []


def test_clients_that_never_finish_keep_nobody_waiting(target: Target) -> None:
    body = json.dumps({"rows": target.records}).encode()
    lines = b"Authorization: Bearer %s\r\nContent-Length: %d\r\n" % (target.address.token.encode(), len(body))
    half = b"POST %s/predict HTTP/1.1\r\nHost: here\r\n%s\r\n" % (target.prefix.encode(), lines) + body[:40]
    stuck = [socket.create_connection(("127.0.0.1", target.address.port)) for _ in range(100)]
    try:
        for number, connection in enumerate(stuck):
            connection.sendall(half[: len(half) if number % 2 else 50])
        for _ in range(20):
            answers_well(target)
    finally:
        for connection in stuck:
            connection.close()


class Grpc:
    """Calls with bytes as they are."""

    def __init__(self, target: Target, channel: grpc.Channel) -> None:
        self._channel = channel
        token = ("authorization", f"Bearer {target.address.token}")
        self._metadata = [token, ("application", target.trained.name)]
        self.codes: Counter[str] = Counter()
        self.broken: list[Any] = []

    def call(self, method: str, request: bytes) -> None:
        ask = self._channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        try:
            ask(request, metadata=self._metadata, timeout=PATIENCE_SECONDS)
            code, details = grpc.StatusCode.OK, ""
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
        self.codes[code.name] += 1
        if code not in CODES or (code is not grpc.StatusCode.OK and not details):
            self.broken.append((code, details, method, request[:300]))


def message_case(target: Target, draw: Mutator) -> messages.ModelInferRequest:
    """A message whose tensors, raw contents or names are odd."""
    chance = draw.chance
    asked = messages.ModelInferRequest(model_name=target.trained.name, id="a call")
    is_raw = chance.random() < 0.5
    for tensor in target.tensors():
        given = asked.inputs.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])
        packed = pack(tensor)
        if is_raw:
            asked.raw_input_contents.append(packed)
        elif tensor["datatype"] == "BYTES":
            given.contents.bytes_contents.extend(str(cell or "").encode() for cell in tensor["data"])
        elif tensor["datatype"] == "BOOL":
            given.contents.bool_contents.extend(np.frombuffer(packed, np.uint8) > 0)
        else:
            given.contents.fp32_contents.extend(np.frombuffer(packed, "<f4").tolist())
    for _ in range(chance.choice([0, 1, 1, 2])):
        spoil(asked, draw)
    return asked


def spoil(asked: messages.ModelInferRequest, draw: Mutator) -> None:
    """Makes one thing in the message odd."""
    chance, tensor = draw.chance, draw.chance.choice(asked.inputs)
    sizes = [-1, 0, 1, 3, 4096, 2**31, 2**62, 2**63 - 1, -(2**63)]
    match chance.randrange(9):
        case 0:
            tensor.shape[:] = [
                size for size in chance.choices(sizes, k=chance.randrange(4)) if -(2**63) <= size < 2**63
            ]
        case 1:
            tensor.datatype = str(chance.choice(ODD_DATATYPES))[:200]
        case 2 if asked.raw_input_contents:
            place = chance.randrange(len(asked.raw_input_contents))
            asked.raw_input_contents[place] = draw.of_bytes(asked.raw_input_contents[place])
        case 3:
            asked.raw_input_contents.append(chance.randbytes(chance.choice([0, 1, 4, 400])))
        case 4:
            tensor.contents.int_contents.extend([2**31 - 1, -(2**31)])
        case 5:
            asked.parameters[chance.choice(["sequence_id", "", "binary_data_output"])].int64_param = -1
        case 6:
            asked.outputs.add(name=chance.choice(["predictions", "nothing", "", "predictions\x00"]))
        case 7:
            asked.inputs.append(tensor)
        case _:
            asked.model_version = chance.choice(["1", "0", "-1", "9" * 300, "ж"])


def test_messages_that_are_nearly_right(target: Target) -> None:
    draw = Mutator(f"{SEED} {target.trained.name} grpc")
    methods = [method.name for method in messages.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods]
    with grpc.insecure_channel(target.address.grpc_target) as channel:
        client = Grpc(target, channel)
        for _ in range(CASES):
            client.call("ModelInfer", message_case(target, draw).SerializeToString())
        for _ in range(CASES):
            noise = draw.of_bytes(message_case(target, draw).SerializeToString())
            client.call("ModelInfer" if draw.chance.random() < 0.8 else draw.chance.choice(methods), noise)
    print(f"FUZZ_SEED={SEED}: {2 * CASES} calls, {dict(client.codes)}")
    assert client.broken == []

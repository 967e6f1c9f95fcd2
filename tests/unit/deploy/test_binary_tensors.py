"""The binary tensor extension: cells as bytes behind the JSON, in requests and answers."""

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from plans import Ask, asker, write

from deploy.bundle import Bundle
from deploy.formats.tensors import DTYPES, bytes_of_cells, cells_of_bytes

HEADER = "inference-header-content-length"


@pytest.fixture
def ask(bundle: Bundle) -> Ask:
    return asker(bundle, "digits")


@pytest.fixture
def ask_plans(tmp_path: Path) -> Ask:
    return asker(Bundle.open(write(tmp_path / "plans")), "plans")


def texts(*words: str) -> bytes:
    return b"".join(struct.pack("<I", len(word.encode())) + word.encode() for word in words)


def tensor(name: str, datatype: str, shape: Sequence[int], content: bytes) -> tuple[dict[str, Any], bytes]:
    head = {"name": name, "datatype": datatype, "shape": list(shape)}
    return {**head, "parameters": {"binary_data_size": len(content)}}, content


def rows(dtype: str = "<f4", datatype: str = "FP32") -> tuple[dict[str, Any], bytes]:
    return tensor("rows", datatype, (2, 3), np.arange(6).astype(dtype).tobytes())


def infer(ask: Ask, model: str, tensors: Sequence[tuple[dict[str, Any], bytes]], **changed: Any) -> httpx.Response:
    length, more = changed.pop("length", None), changed.pop("more", b"")
    head = orjson.dumps({"inputs": [head for head, _ in tensors], **changed})
    body = b"".join([head, *(content for _, content in tensors), more])
    headers = {HEADER: str(len(head) if length is None else length)}
    return ask("POST", f"/v2/models/{model}/infer", content=body, headers=headers)


def parts(answer: httpx.Response) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The JSON of an answer, and the bytes of its tensors by name."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers[HEADER])
    head, rest, found = orjson.loads(answer.content[:length]), answer.content[length:], {}
    for output in head["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is not None:
            found[output["name"]], rest = rest[:size], rest[size:]
    assert rest == b""
    return head, found


@pytest.mark.parametrize(("dtype", "datatype"), [("<f4", "FP32"), ("<f8", "FP64"), ("<i8", "INT64"), ("u1", "UINT8")])
def test_bytes_are_answered_as_json_is(ask: Ask, dtype: str, datatype: str) -> None:
    answer = infer(ask, "digits", [rows(dtype, datatype)], id="a")
    assert answer.json()["outputs"][1]["data"] == [0.25, 0.75, 0.25, 0.75]
    assert answer.json()["id"] == "a"
    assert HEADER not in answer.headers


def test_all_outputs_come_as_bytes_where_the_request_wants_it(ask: Ask) -> None:
    head, found = parts(infer(ask, "digits", [rows()], parameters={"binary_data_output": True}))
    assert found["predictions"] == texts("dog", "dog")
    assert np.frombuffer(found["probabilities"], "<f4").tolist() == [0.25, 0.75, 0.25, 0.75]
    assert [(output["shape"], "data" in output) for output in head["outputs"]] == [([2], False), ([2, 2], False)]


def test_one_output_as_bytes_and_another_as_json(ask: Ask) -> None:
    wanted = [{"name": "probabilities", "parameters": {"binary_data": True}}, {"name": "predictions"}]
    head, found = parts(infer(ask, "digits", [rows()], outputs=wanted))
    assert list(found) == ["probabilities"]
    assert head["outputs"][1]["data"] == ["dog", "dog"]
    wanted = [{"name": "predictions", "parameters": {"binary_data": False}}]
    answer = infer(ask, "digits", [rows()], outputs=wanted, parameters={"binary_data_output": True})
    assert answer.json()["outputs"][0]["data"] == ["dog", "dog"]


def test_columns_of_texts_truths_and_missing_numbers_come_as_bytes(ask_plans: Ask) -> None:
    columns = [
        tensor("plan", "BYTES", (2, 1), texts("pro", "gôld")),
        tensor("age", "FP64", (2,), np.array([3.0, np.nan]).tobytes()),
        tensor("paid", "BOOL", (2,), b"\x01\x00"),
    ]
    assert infer(ask_plans, "plans", columns).json()["outputs"][0]["data"] == [1103, 210]


def test_a_request_may_mix_bytes_and_json(ask_plans: Ask) -> None:
    columns = [
        tensor("plan", "BYTES", (1,), texts("pro")),
        ({"name": "age", "datatype": "INT8", "shape": [1], "data": [None]}, b""),
        tensor("paid", "BOOL", (1,), b"\x02"),  # any byte but 0 is true
    ]
    assert infer(ask_plans, "plans", columns).json()["outputs"][0]["data"] == [1110]


@pytest.mark.parametrize("datatype", DTYPES)
def test_cells_survive_their_bytes(datatype: str) -> None:
    cells = np.array([0, 1, 1]).astype(DTYPES[datatype])
    again = cells_of_bytes("x", datatype, bytes_of_cells(datatype, cells))
    assert isinstance(again, np.ndarray)
    assert (again.tolist(), again.dtype) == (cells.tolist(), cells.dtype.newbyteorder("="))


def with_size(size: Any) -> list[tuple[dict[str, Any], bytes]]:
    head, content = rows()
    return [({**head, "parameters": {"binary_data_size": size}}, content)]


@pytest.mark.parametrize(
    ("tensors", "changed", "status", "reason"),
    [
        ([rows()], {"length": "x"}, 400, "is 'x'; it says how many of the body's"),
        ([rows()], {"length": 10_000}, 400, "is '10000'"),
        ([rows()], {"length": 3}, 400, "not JSON"),
        ([rows()], {"more": b"abc"}, 400, "3 bytes more than its tensors say"),
        (with_size(25), {}, 422, "binary_data_size 25; 24 bytes are left"),
        (with_size("24"), {}, 422, "binary_data_size '24'"),
        (with_size(-1), {}, 422, "binary_data_size -1"),
        (with_size(True), {}, 422, "binary_data_size True"),
        ([tensor("rows", "FP32", (2, 3), b"abc")], {}, 422, "has 3 bytes; a cell of FP32 takes 4"),
        ([tensor("rows", "FP32", (2, 3), b"abcd")], {}, 422, "says shape [2, 3] and has 1 cells"),
        ([tensor("rows", "FP32", (9, 3), bytes(108))], {}, 413, "9 rows; a request may have 8"),
        ([tensor("rows", "FP32", (1, 3), np.float32([1, np.nan, 2]).tobytes())], {}, 422, "'height': nan is no finite"),
        ([tensor("rows", "FP64", (1, 3), np.float64([1, 1e39, 2]).tobytes())], {}, 422, "'height': 1e+39 is no finite"),
        ([tensor("rows", "BYTES", (1, 3), b"ab")], {}, 422, "in the middle of a text's length"),
        ([tensor("rows", "BYTES", (1, 3), struct.pack("<I", 9) + b"ab")], {}, 422, "in the middle of a text"),
        ([tensor("rows", "BYTES", (1, 3), struct.pack("<I", 1) + b"\xff")], {}, 422, "a text that is not UTF-8"),
        ([({**rows()[0], "data": [1]}, rows()[1])], {}, 422, "has 'data' and 'binary_data_size'"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(
    ask: Ask, tensors: Any, changed: dict[str, Any], status: int, reason: str
) -> None:
    answer = infer(ask, "digits", tensors, **changed)
    assert reason in answer.json()["error"]
    assert answer.status_code == status


def test_a_compressed_body_is_refused(ask: Ask) -> None:
    answer = ask("POST", "/v2/models/digits/infer", content=b"x", headers={"content-encoding": "gzip"})
    assert (answer.status_code, "not taken compressed" in answer.json()["error"]) == (415, True)

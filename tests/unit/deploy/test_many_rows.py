"""Many rows of a request are read at once, with what a look at each cell would have made of them."""

from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deploy.bundle import Kind, Schema
from deploy.formats import predict_rows
from deploy.formats.predict_rows import FEW, read_rows
from deploy.formats.rows import parse_json, parse_rows
from deploy.http.asgi import Refusal
from deploy.http.media import JSON

SCHEMA = Schema(columns=("a", "b"), kind=Kind.CLASSIFICATION, labels=("x", "y"))
LIMIT = 12

numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False))
cells = st.one_of(numbers, numbers, numbers, st.sampled_from([True, False, None, "1", "", [], [1.0], {"a": 1}]))
rows = st.one_of(
    st.lists(st.lists(numbers, min_size=2, max_size=2), max_size=LIMIT + 2),
    st.lists(st.lists(cells, max_size=3), max_size=LIMIT + 2),
    st.lists(st.one_of(st.lists(numbers, min_size=2, max_size=2), st.just({"a": 1, "b": 2})), max_size=LIMIT),
)


def outcome(read: Any, body: bytes) -> Any:
    try:
        return read(body).tolist()
    except Refusal as refusal:
        return refusal.status, refusal.reason


def look_at_each(body: bytes) -> Any:
    return parse_rows(parse_json(body), SCHEMA, LIMIT)


@settings(max_examples=400)
@given(rows=rows, is_object=st.booleans())
@example(rows=[[1, 2]] * 6 + [[1e39, 2]], is_object=True)
@example(rows=[[1e39, 2]], is_object=True)
@example(rows=[[True, 2]], is_object=False)
@example(rows=[[1, 2]] * 6 + [[2**64, -(2**63)]], is_object=False)
@example(rows=[[1.0, 2.0]] * 6 + [[True, 2]], is_object=True)
@example(rows=[[1.0, 2.0]] * 6 + [["3", 2]], is_object=False)
@example(rows=[[[1, 2]]] * 6, is_object=False)
def test_the_same_comes_of_them(rows: list[Any], is_object: bool) -> None:
    try:
        body = orjson.dumps({"rows": rows} if is_object else rows)
    except TypeError:  # of integers that JSON's readers do not take either
        body = b"%s" % repr(rows).replace("'", '"').replace("True", "true").replace("None", "null").encode()
    assert outcome(lambda given: read_rows(JSON, given, SCHEMA, LIMIT), body) == outcome(look_at_each, body)


@pytest.mark.parametrize("count", [1, FEW + 1, LIMIT])
@pytest.mark.parametrize("body", [b"[%s]", b'{"rows": [%s]}'])
def test_lists_of_numbers_are_read_at_once(body: bytes, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict_rows, "parse_rows", None)
    found = read_rows(JSON, body % b",".join([b"[1, 2.5]"] * count), SCHEMA, LIMIT)
    assert isinstance(found, np.ndarray)
    assert (found.dtype, found.shape, found[0].tolist()) == (np.float32, (count, 2), [1.0, 2.5])


@pytest.mark.parametrize(
    "cell", [b'"a"', b"true", b"false", b'"' + b"long" * 1000 + b'"', b'{"rows": 1}', b'"\\""'], ids=lambda c: c[:8]
)
def test_what_numpy_would_take_for_a_number_or_make_all_others_as_long_as_is_not(
    cell: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> None:
        raise AssertionError("numpy was given a text or a truth value")

    monkeypatch.setattr(predict_rows, "numbers_at_once", never)
    for body in (b"[%s, [1, %s]]", b'{"rows": [%s, [1, %s]]}'):
        with pytest.raises(Refusal):
            read_rows(JSON, body % (b",".join([b"[1, 2]"] * FEW), cell), SCHEMA, LIMIT)

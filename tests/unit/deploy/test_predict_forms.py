"""`/predict` by its kinds of body and answer: JSON in three shapes, CSV, and Arrow IPC streams."""

import datetime
import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from plans import RECORD, Ask, asker, write

from deploy.bundle import Bundle, Column, ColumnKind, Kind, Lineage, Schema, Table, constant_model, write_bundle
from deploy.formats.arrow_rows import parse_arrow
from deploy.formats.csv_rows import parse_csv
from deploy.http.asgi import Refusal

CSV, ARROW = "text/csv", "application/vnd.apache.arrow.stream"
TABLE = {"plan": ["pro", "gold"], "age": [3, None], "paid": [True, False]}
VALUES = [1103, 210]


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    return asker(Bundle.open(write(tmp_path / "plans")), "plans")


@pytest.fixture
def ask_digits(bundle: Bundle) -> Ask:
    return asker(bundle, "digits")


def stream(table: Any, **options: Any) -> bytes:
    table = pa.table(table) if isinstance(table, dict) else table
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def send(ask: Ask, body: Any, media: str, **headers: str) -> httpx.Response:
    given = body.encode() if isinstance(body, str) else body
    return ask("POST", "/predict", content=given, headers={"content-type": media, **headers})


# --- what comes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "media", ["application/json", "Application/JSON; charset=UTF-8", " ", "application/x-www-form-urlencoded"]
)
def test_columns_are_answered_as_rows_are(ask: Ask, media: str) -> None:
    answer = ask("POST", "/predict", json={"columns": TABLE}, headers={"content-type": media})
    assert (answer.status_code, answer.json()["predictions"]) == (200, VALUES)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"columns": TABLE, "rows": []}, 422, "has 'columns' and 'rows'; give the rows in one way"),
        ({"columns": [1]}, 422, "Give 'columns' as"),
        ({"columns": {**TABLE, "age": 3}}, 422, "Give 'columns' as"),
        ({"columns": {**TABLE, "aeg": [1]}}, 422, "no column 'aeg'. Did you mean 'age'?"),
        ({"columns": {"age": [1], "plan": ["pro"]}}, 422, "The column 'paid' is missing"),
        ({"columns": {**TABLE, "age": [1]}}, 422, "'age' has 1 cells, 'plan' has 2"),
        ({"columns": {**TABLE, "age": ["x", 1]}}, 422, "Row 0, column 'age': a text ('x')"),
        ({"columns": {name: [] for name in TABLE}}, 422, "There are no rows"),
        ({"columns": {name: cells * 5 for name, cells in TABLE.items()}}, 413, "10 rows; a request may have 8"),
    ],
)
def test_columns_that_do_not_fit_are_refused(ask: Ask, body: Any, status: int, reason: str) -> None:
    answer = ask("POST", "/predict", json=body)
    assert reason in answer.json()["error"]
    assert answer.status_code == status


@pytest.mark.parametrize(
    "text",
    [
        "plan,age,paid\npro,3,true\ngold,,false\n",
        '\ufeffpaid,"age",plan\r\nTRUE,3.0,"pro"\r\n\r\nFalse,NA,gold',
    ],
)
def test_csv_is_answered_and_empty_is_missing(ask: Ask, text: str) -> None:
    answer = send(ask, text, "text/csv; charset=utf-8")
    assert (answer.status_code, answer.json()["predictions"]) == (200, VALUES)


def test_csv_of_numbers(ask_digits: Ask) -> None:
    answer = send(ask_digits, "depth,width,height\n3,1,2e0\n", CSV)
    assert answer.json()["predictions"] == ["dog"]
    answer = send(ask_digits, "depth,width,height\n3,,2\n", CSV)
    assert (answer.status_code, "Row 0, column 'width': nothing" in answer.json()["error"]) == (422, True)


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        (b"", 422, "The first line is empty"),
        (b"\n", 422, "The first line is empty"),
        (b"plan,age,paid\n", 422, "no rows below the line of names"),
        (b"plan,age,age\n", 422, "names the column 'age' twice"),
        (b"plan,age\npro,3\n", 422, "The column 'paid' is missing"),
        (b"plan,aeg,paid\npro,3,true\n", 422, "no column 'aeg'. Did you mean 'age'?"),
        (b"plan,age,paid\npro,3\n", 422, "Line 2 has 2 cells where 3 columns are named"),
        (b"plan,age,paid\npro,3,true\npro,x,true\n", 422, "Row 1, column 'age': a text ('x') was given, a number"),
        (b"plan,age,paid\npro,3,yes\n", 422, "Row 0, column 'paid': a text ('yes') was given, true or false"),
        (b"plan,age,paid\n,3,true\n", 422, "column 'plan': nothing (null) was given"),
        (b"plan,age,paid\npro,1e39,true\n", 422, "column 'age': 1e+39 is no finite float32"),
        (b'plan,age,paid\n"pro,3,true\n', 400, "no CSV in UTF-8"),
        (b"plan,age,paid\n\xff,3,true\n", 400, "no CSV in UTF-8"),
        (b"plan,age,paid\n" + b"pro,3,true\n" * 9, 413, "a request may have 8"),
    ],
)
def test_csv_that_does_not_fit_is_refused(ask: Ask, text: bytes, status: int, reason: str) -> None:
    answer = send(ask, text, CSV)
    assert reason in answer.json()["error"]
    assert answer.status_code == status


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        {**TABLE, "age": pa.array([3, np.nan], pa.float16(), from_pandas=False)},
        {
            **TABLE,
            "age": pa.array([3, None], pa.decimal128(5, 2)),
            "plan": pa.array(["pro", "gold"], pa.large_string()),
        },
        {**TABLE, "plan": pa.array(["pro", "gold"]).dictionary_encode()},
        {**TABLE, "plan": pa.array(["pro", "gold, longer than what fits into a view"], pa.string_view())},
        {**TABLE, "plan": pa.DictionaryArray.from_arrays([1, 0], pa.array(["gold", "pro"], pa.string_view()))},
        pa.concat_tables([pa.table(TABLE).slice(0, 1), pa.table(TABLE).slice(1)]),
    ],
)
def test_an_arrow_stream_is_answered_and_null_is_missing(ask: Ask, table: Any) -> None:
    answer = send(ask, stream(table), ARROW)
    assert (answer.status_code, answer.json()["predictions"]) == (200, VALUES)


def test_batches_with_dictionaries_of_their_own_are_read(ask: Ask) -> None:
    batches = [
        pa.record_batch({"age": [1], "paid": [False], "plan": pa.array([word]).dictionary_encode()})
        for word in ("basic", "pro", "gold")
    ]
    answer = send(ask, stream(pa.Table.from_batches(batches)), ARROW)
    assert answer.json()["predictions"] == [1, 101, 201]


def test_dates_come_in_arrows_types_and_as_text() -> None:
    schema = Schema(("day",), Kind.REGRESSION, raw=(Column("day", ColumnKind.DATE, nullable=True),))
    day = datetime.date(2026, 2, 28)
    for kind in (pa.date32(), pa.date64(), pa.timestamp("us"), pa.timestamp("ns", tz="UTC")):
        rows = parse_arrow(stream({"day": pa.array([day, None]).cast(pa.timestamp("us")).cast(kind)}), schema, 8)
        assert isinstance(rows, Table)
        assert rows.tolist() == [["2026-02-28"], [None]]
    rows = parse_csv(b"day\n2026-02-28\n\n", schema, 8)
    assert isinstance(rows, Table)
    assert rows.tolist() == [["2026-02-28"], [None]]
    with pytest.raises(Refusal, match="holds what is not a date"):
        parse_arrow(stream({"day": pa.array([2_000_000_000], pa.date32())}), schema, 8)


def nothing_of(size: int) -> pa.Table:
    return pa.table({name: pa.nulls(size) for name in TABLE})


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "no Arrow IPC stream"),
        (b"nonsense", 400, "no Arrow IPC stream"),
        (b"\xff\xff\xff\xff\x10\x00\x00\x00" + b"\x7f" * 16, 400, "no Arrow IPC stream"),
        (stream(TABLE)[:-60], 400, "no Arrow IPC stream"),
        (stream({**TABLE, "plan": ["pro " * 100] * 2}, compression="zstd"), 415, "compressed"),
        (stream({**TABLE, "plan": ["pro " * 100] * 2}, compression="lz4"), 415, "compressed"),
        (stream(nothing_of(1_000_000_000)), 413, "1000000000 rows; a request may have 8"),
        (stream(nothing_of(0)), 422, "There are no rows"),
        (stream(nothing_of(1)), 422, "column 'plan': nothing (null) was given"),
        (stream({**TABLE, "age": ["3", "4"]}), 422, "'age' is of Arrow's type string; a number is needed"),
        (stream({**TABLE, "plan": [3, 4]}), 422, "'plan' is of Arrow's type int64; a text is needed"),
        (stream({**TABLE, "plan": pa.array([b"a", b"b"], pa.binary_view())}), 422, "type binary_view; a text"),
        (stream({**TABLE, "paid": [1, 0]}), 422, "'paid' is of Arrow's type int64; a truth value is needed"),
        (stream({**TABLE, "age": [[1], [2]]}), 422, "type list<item: int64>; a number is needed"),
        (stream({**TABLE, "aeg": [1, 2]}), 422, "no column 'aeg'. Did you mean 'age'?"),
        (stream({"age": [1]}), 422, "The column 'plan' is missing"),
        (
            stream(pa.Table.from_arrays([pa.array([1])] * 2, names=["age", "age"])),
            422,
            "Two columns have the same name",
        ),
    ],
)
def test_an_arrow_stream_that_does_not_fit_is_refused(ask: Ask, body: bytes, status: int, reason: str) -> None:
    answer = send(ask, body, ARROW)
    assert reason in answer.json()["error"]
    assert answer.status_code == status


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_views_of_the_same_bytes_are_measured_before_texts_are_made(tmp_path: Path, as_dictionary: bool) -> None:
    text = b"x" * 3_000_000
    view = struct.pack("<i4sii", len(text), text[:4], 0, 0)
    buffers = [None, pa.py_buffer(view * 1000), pa.py_buffer(text)]
    views = pa.Array.from_buffers(pa.string_view(), 1000, buffers)
    plan = pa.DictionaryArray.from_arrays(pa.array(range(1000)), views) if as_dictionary else views
    ask = asker(Bundle.open(write(tmp_path / "plans")), "plans", max_rows=4096)
    body = stream({"age": [1] * 1000, "plan": plan, "paid": [True] * 1000})
    assert len(body) < 4_000_000
    answer = send(ask, body, ARROW)
    assert (answer.status_code, "texts are more than 67108864 bytes" in answer.json()["error"]) == (413, True)


def test_a_stream_damaged_anywhere_is_answered_or_refused(ask: Ask) -> None:
    whole = stream({**TABLE, "plan": pa.array(["pro", "gold"]).dictionary_encode()})
    statuses = set()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0xFF
        statuses.add(send(ask, bytes(damaged), ARROW).status_code)
    assert {200, 400} <= statuses <= {200, 400, 413, 415, 422}


@pytest.mark.parametrize(
    ("media", "reason"),
    [
        ("application/xml", "send application/json, text/csv"),
        ("text/csv; charset=latin-1", "charset 'latin-1'"),
    ],
)
def test_another_kind_of_body_is_refused(ask: Ask, media: str, reason: str) -> None:
    answer = send(ask, b"{}", media)
    assert (answer.status_code, reason in answer.json()["error"]) == (415, True)


# --- what goes ------------------------------------------------------------------------------------------------------


def accepting(ask: Ask, accept: str, rows: list[Any] | None = None) -> httpx.Response:
    return ask("POST", "/predict", json=rows or [[1, 2, 3]] * 2, headers={"accept": accept})


def read_stream(answer: httpx.Response) -> pa.Table:
    assert answer.headers["content-type"] == ARROW
    return pa.ipc.open_stream(answer.content).read_all()


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        ("*/*", "application/json"),
        ("text/*", CSV),
        ("text/csv;q=0.5, application/json;q=0.4", CSV),
        ("application/*, application/json;q=0.1", ARROW),
        ("text/html, */*;q=0.1", "application/json"),
        ("application/json;q=0, */*", CSV),
        ("application/json;q=x, text/csv;q=0.1", CSV),
    ],
)
def test_the_answer_is_what_the_client_likes_best(ask_digits: Ask, accept: str, media: str) -> None:
    assert accepting(ask_digits, accept).headers["content-type"].partition(";")[0] == media


def test_a_client_that_likes_nothing_of_ours_is_told_so(ask_digits: Ask) -> None:
    answer = accepting(ask_digits, "text/html, application/json;q=0")
    assert (answer.status_code, "take application/json, text/csv" in answer.json()["error"]) == (406, True)


def test_classes_and_probabilities_as_csv_and_arrow(ask_digits: Ask) -> None:
    answer = accepting(ask_digits, CSV)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert (answer.headers["x-model-version"], answer.headers["x-trial"]) == ("1", "12")
    assert answer.text == "prediction,probability_cat,probability_dog\r\n" + "dog,0.25,0.75\r\n" * 2
    table = read_stream(accepting(ask_digits, ARROW))
    assert table.to_pydict() == {
        "prediction": ["dog"] * 2,
        "probability_cat": [0.25] * 2,
        "probability_dog": [0.75] * 2,
    }
    assert table.schema.metadata == {b"version": b"1", b"study": b"digits", b"trial": b"12"}


def test_values_as_csv_and_arrow(ask: Ask) -> None:
    rows = [RECORD, {**RECORD, "age": None}]
    assert accepting(ask, CSV, rows).text == "prediction\r\n1103.0\r\n1110.0\r\n"
    assert read_stream(accepting(ask, ARROW, rows)).to_pydict() == {"prediction": [1103.0, 1110.0]}


@pytest.mark.parametrize(
    ("labels", "shown", "csv"),
    [((False, True), True, "true"), ((3, 4), 4, "4"), (("3", 4), "4", "4"), ((0.5, 1.5), 1.5, "1.5")],
)
def test_labels_of_each_type(tmp_path: Path, labels: Any, shown: Any, csv: str) -> None:
    path = write_bundle(
        tmp_path / "b",
        onnx_model=constant_model(1, (0.25, 0.75)),
        schema=Schema(("x",), Kind.CLASSIFICATION, labels),
        lineage=Lineage("s", 1, 1),
        sample_rows=np.ones((1, 1), np.float32),
    )
    ask = asker(Bundle.open(path), "m")
    assert read_stream(accepting(ask, ARROW, [[1]])).to_pydict()["prediction"] == [shown]
    assert accepting(ask, CSV, [[1]]).text.splitlines()[1] == f"{csv},0.25,0.75"


def test_several_targets_have_a_column_each(tmp_path: Path) -> None:
    path = write_bundle(
        tmp_path / "b",
        onnx_model=constant_model(1, (1.5, float("nan"))),
        schema=Schema(("x",), Kind.REGRESSION),
        lineage=Lineage("s", 1, 1),
        sample_rows=np.ones((1, 1), np.float32),
    )
    ask = asker(Bundle.open(path), "m")
    assert accepting(ask, CSV, [[1]]).text == "prediction_0,prediction_1\r\n1.5,\r\n"
    assert accepting(ask, "application/json", [[1]]).json()["predictions"] == [[1.5, None]]
    assert read_stream(accepting(ask, ARROW, [[1]])).column_names == ["prediction_0", "prediction_1"]


@pytest.mark.parametrize("form", ["json", "csv", "arrow"])
def test_many_rows_leave_the_event_loop_and_are_answered_alike(tmp_path: Path, form: str) -> None:
    ask = asker(Bundle.open(write(tmp_path / "plans")), "plans", max_rows=4096)
    count = 3000
    columns = {"age": list(range(count)), "plan": ["pro"] * count, "paid": [False] * count}
    bodies: dict[str, Callable[[], httpx.Response]] = {
        "json": lambda: ask("POST", "/predict", json={"columns": columns}),
        "csv": lambda: send(ask, csv_of(columns), CSV),
        "arrow": lambda: send(ask, stream(columns), ARROW),
    }
    assert bodies[form]().json()["predictions"] == [100 + age for age in range(count)]


def csv_of(columns: dict[str, list[Any]]) -> str:
    text = io.StringIO()
    text.write(",".join(columns) + "\n")
    text.writelines(",".join(map(str, row)) + "\n" for row in zip(*columns.values(), strict=True))
    return text.getvalue()

"""The columns stage against plain references, written with loops."""

import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.bundle import (
    CategoryStep,
    Column,
    ColumnKind,
    DateStep,
    Encoding,
    NumberStep,
    Table,
    TableEncoder,
)
from orchestrator.domain.errors import BundleError

COLUMNS = (
    Column("age", ColumnKind.NUMBER, nullable=True),
    Column("plan", ColumnKind.CATEGORY, nullable=True, levels=("basic", "pro")),
    Column("paid", ColumnKind.BOOL, nullable=True),
    Column("since", ColumnKind.DATE, nullable=True),
)
ENCODER = TableEncoder(
    COLUMNS,
    (
        NumberStep("age", fill=40.0, indicator=True, center=40.0, scale=8.0, limit=5.0),
        CategoryStep("plan", Encoding.ONE_HOT, ("basic", "pro"), (0.5, 0.25, 0.15, 0.1)),
        NumberStep("paid", fill=1.0),
        DateStep("since", origin=20_000.0, fill=19_000.0, indicator=True),
    ),
)
ages = st.none() | st.floats(-(2.0**100), 2.0**100, width=32)
plans = st.none() | st.sampled_from(["basic", "pro", "gold", ""]) | st.text(max_size=3)
dates = st.none() | st.dates(date(1600, 1, 1), date(2999, 12, 31)).map(date.isoformat)
rows = st.lists(st.tuples(ages, plans, st.none() | st.booleans(), dates), min_size=1, max_size=8)


def reference(row: tuple[object, ...]) -> list[float]:
    age, plan, paid, since = row
    day = date(1970, 1, 1) + timedelta(days=19_000) if since is None else date.fromisoformat(str(since))
    slot = 3 if plan is None else {"basic": 0, "pro": 1}.get(str(plan), 2)
    return [
        min(5.0, max(-5.0, ((40.0 if age is None else float(np.float32(age))) - 40.0) / 8.0)),  # type: ignore[arg-type]
        float(age is None),
        *(float(slot == other) for other in range(4)),
        1.0 if paid is None else float(paid),  # type: ignore[arg-type]
        day.year,
        day.month,
        day.day,
        day.weekday(),
        (day - date(1970, 1, 1)).days - 20_000,
        float(since is None),
    ]


@given(rows)
def test_every_row_becomes_what_a_plain_loop_makes_of_it(given_rows):
    expected = np.array([reference(row) for row in given_rows], dtype=np.float32)
    assert np.array_equal(ENCODER.transform(Table.of_rows(COLUMNS, given_rows)), expected)


@given(rows)
def test_a_row_does_not_depend_on_its_neighbours(given_rows):
    together = ENCODER.transform(Table.of_rows(COLUMNS, given_rows))
    alone = [ENCODER.transform(Table.of_rows(COLUMNS, [row]))[0] for row in given_rows]
    assert np.array_equal(together, np.stack(alone))


@given(rows)
def test_a_table_gives_back_what_it_was_made_of(given_rows):
    table = Table.of_rows(COLUMNS, given_rows)
    again = Table.of_rows(COLUMNS, orjson.loads(orjson.dumps(table.records())))
    assert again.tolist() == table.tolist()
    assert [row[1:] for row in table.tolist()] == [list(row[1:]) for row in given_rows]
    assert [row[0] and np.float32(row[0]) for row in table.tolist()] == [row[0] for row in given_rows]


@given(
    st.floats(allow_nan=False, allow_infinity=False), st.floats(1e-3, 1e9), st.lists(st.text(max_size=4), unique=True)
)
def test_json_gives_back_the_same_steps(fill, scale, levels):
    plan = CategoryStep("plan", Encoding.FREQUENCY, tuple(levels), tuple([1 / 3] * (len(levels) + 2)))
    encoder = TableEncoder(COLUMNS, (NumberStep("age", fill, False, fill, scale), plan, DateStep("since", 3.0)))
    assert TableEncoder.from_bytes(encoder.to_bytes(), COLUMNS) == encoder


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        (Encoding.ORDINAL, [[0], [1], [2], [3]]),
        (Encoding.FREQUENCY, [[0.5], [0.25], [0.15], [0.1]]),
        (Encoding.ONE_HOT, np.eye(4).tolist()),
    ],
)
def test_rare_and_unseen_levels_share_a_slot_and_missing_has_its_own(encoding, expected):
    step = CategoryStep("plan", encoding, ("basic", "pro"), (0.5, 0.25, 0.15, 0.1))
    table = Table.of_rows(COLUMNS[1:2], [["basic"], ["pro"], ["gold"], [None]])
    assert TableEncoder(COLUMNS[1:2], (step,)).transform(table).tolist() == np.float32(expected).tolist()
    assert len(step.features) == len(expected[0])


def test_a_number_may_stay_missing_for_trees():
    out = TableEncoder(COLUMNS[:1], (NumberStep("age"),)).transform(Table.of_rows(COLUMNS[:1], [[None], [3]]))
    assert np.array_equal(out, [[np.nan], [3]], equal_nan=True)


def test_another_process_makes_the_same_bytes(tmp_path: Path):
    given_rows = [[31.7, "basic", True, "2024-02-29"], [None, "zzz", None, None], [3e38, "", False, "1900-01-01"]]
    (tmp_path / "columns.json").write_bytes(ENCODER.to_bytes())
    (tmp_path / "rows.json").write_bytes(orjson.dumps([[column.to_dict() for column in COLUMNS], given_rows]))
    script = (
        "import orjson, sys; from pathlib import Path; from deploy.bundle import Column, Table, TableEncoder\n"
        "place = Path(sys.argv[1]); columns, rows = orjson.loads((place / 'rows.json').read_bytes())\n"
        "columns = tuple(Column.from_dict(column) for column in columns)\n"
        "encoder = TableEncoder.from_bytes((place / 'columns.json').read_bytes(), columns)\n"
        "print(encoder.transform(Table.of_rows(columns, rows)).tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ENCODER.transform(Table.of_rows(COLUMNS, given_rows)).tobytes().hex()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (["old", None, None, None], r"Row 0, column 'age': a text \('old'\) was given, a number is needed"),
        ([True, None, None, None], "column 'age': a truth value was given"),
        ([1e39, None, None, None], "column 'age': 1e\\+39 is no finite float32"),
        ([10**400, None, None, None], "column 'age': .* is no finite float32"),
        ([1, 3, None, None], "column 'plan': a number was given, a text is needed"),
        ([1, ["x"], None, None], "column 'plan': a list was given"),
        ([1, "x", 1, None], "column 'paid': a number was given, true or false is needed"),
        ([1, "x", None, "soon"], r"column 'since': a text \('soon'\) was given, a date such as"),
        ([1, "x", None, "2026-02-30"], "column 'since'"),
        ([1, "x", None], "Row 0 has 3 cells; this model takes 4"),
        ({"age": 1, "plan": "x", "paid": True}, "Row 0 lacks the column 'since'"),
        ({"age": 1, "pln": "x", "paid": True, "since": None}, "unknown column 'pln'. Did you mean 'plan'"),
        ("text", "Row 0 is a text"),
    ],
)
def test_a_row_that_does_not_fit_is_told_where(row, reason):
    with pytest.raises(BundleError, match=reason):
        Table.of_rows(COLUMNS, [row])


def test_what_was_never_missing_may_not_be_missing():
    with pytest.raises(
        BundleError, match=r"column 'age': nothing \(null\) was given, a number is needed: it was never"
    ):
        Table.of_rows((Column("age"),), [[None]])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"steps": [{"kind": "magic", "column": "age"}]}', "kind 'magic'; this version knows number, category, date"),
        (b'{"steps": [{"kind": "number", "colum": "age"}]}', "cannot be read"),
        (b'{"steps": [{"kind": "number", "column": "plan"}]}', "cannot take column 'plan'"),
        (b'{"steps": []}', "needs a step"),
        (b"no json", "cannot be read"),
    ],
)
def test_a_stage_that_cannot_be_run_is_refused(content, reason):
    with pytest.raises(BundleError, match=reason):
        TableEncoder.from_bytes(content, COLUMNS)


def test_tables_are_read_only_and_checked():
    table = Table.of_rows(COLUMNS, [[1, "x", True, None]])
    with pytest.raises(ValueError, match="read-only"):
        table.values[0, 0] = 2
    with pytest.raises(BundleError, match="cannot have values of shape"):
        Table(COLUMNS, np.zeros((1, 2), np.float32), ((),) * 4)
    with pytest.raises(BundleError, match="this model takes"):
        ENCODER.transform(Table.of_rows(COLUMNS[:1], [[1]]))

"""Tables from files, and what is said of those that cannot be used."""

import pickle
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import feather, parquet

from deploy.bundle import ColumnKind
from orchestrator.api.study_file import read_study_file
from orchestrator.domain.errors import InvalidSpecification
from trainables.data import Split, TableSplit, baseline, example_row, load, split
from trainables.metrics import auc

CSV = "age,plan,paid,since,left\n" + "".join(
    f"{'' if i % 7 == 0 else i},{('basic', 'pro', 'NA')[i % 3]},{'true' if i % 2 else 'false'},2026-01-{i % 28 + 1:02},"
    f"{'yes' if i % 4 else 'no'}\n"
    for i in range(40)
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "customers.csv"
    path.write_text(CSV)
    return path


def test_a_csv_has_kinds_missing_cells_and_known_levels(file: Path) -> None:
    parts = split(load(str(file), target="left"))
    assert isinstance(parts, TableSplit)
    kinds = {column.name: (column.kind, column.nullable, column.levels) for column in parts.table.columns}
    assert kinds == {
        "age": (ColumnKind.NUMBER, True, ()),
        "plan": (ColumnKind.CATEGORY, True, ("basic", "pro")),
        "paid": (ColumnKind.BOOL, False, ()),
        "since": (ColumnKind.DATE, False, ()),
    }
    assert parts.table.records()[2] == {"age": 2.0, "plan": None, "paid": False, "since": "2026-01-03"}
    assert parts.classes == ("no", "yes")
    assert (baseline(parts, "val_auc"), baseline(parts, "val_accuracy")) == (0.5, 0.75)
    assert set(example_row(parts)) == {"age", "plan", "paid", "since"}


def test_parts_share_no_row_and_are_read_only_also_after_a_pickle(file: Path) -> None:
    parts = split(load(str(file), target="left"))
    rows = np.concatenate([parts.train, parts.validation, parts.test])
    assert sorted(rows.tolist()) == list(range(40))
    for each in (parts, pickle.loads(pickle.dumps(parts, protocol=5))):
        assert each.test_x.tolist() == parts.test_x.tolist()
        for array in (each.y, each.table.values, each.train, each.test_y):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather"])
def test_other_files_give_the_same_table(file: Path, suffix: str) -> None:
    dataset = load(str(file), target="left")
    other = file.with_suffix(f".{suffix}")
    write = parquet.write_table if suffix == "parquet" else feather.write_feather
    write(dataset.table, str(other))
    assert load(str(other), target="left").sha256 == dataset.sha256
    assert load(other.as_uri(), target="left").sha256 == dataset.sha256


def test_a_file_of_numbers_gives_arrays(tmp_path: Path) -> None:
    (tmp_path / "n.csv").write_text("a,b,y\n" + "".join(f"{i},{i % 2},{i / 2}\n" for i in range(20)))
    assert isinstance(split(load(str(tmp_path / "n.csv"), target="y")), Split)


def test_categories_and_times_of_other_programs_are_understood(tmp_path: Path) -> None:
    table = pa.table(
        {
            "kind": pa.array(["a", None, "b", "a"]).dictionary_encode(),
            "at": pa.array([date(2026, 1, 1), date(2026, 1, 2), None, date(1960, 1, 1)]).cast(pa.timestamp("us")),
            "nothing": pa.nulls(4),
            "y": [0.5, 1.5, 2.5, 3.5],
        }
    )
    parquet.write_table(table, tmp_path / "t.parquet")
    parts = split(load(str(tmp_path / "t.parquet"), target="y"), 0.25, 0.25)
    assert parts.table.tolist()[1:3] == [[None, "2026-01-02", None], ["b", None, None]]
    assert parts.table.tolist()[3][1] == "1960-01-01"


@pytest.mark.parametrize(
    ("content", "target", "message"),
    [
        (CSV, "lef", "target 'lef' is not a column of .* Did you mean 'left'"),
        (CSV, None, r"data\.target: say which column"),
        ("a,y\n", "y", "has no rows"),
        ("", "y", "cannot be read as .csv"),
        ("a,b,y\n1,2\n", "y", "cannot be read as .csv"),
        ("a,a,y\n1,2,x\n", "y", "several columns named 'a'"),
        ("y\nx\nz\n", "y", "no column beside its target"),
        ("a,y\n1,x\n2,\n3,z\n", "y", "1 missing"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, content: str, target: str | None, message: str) -> None:
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(InvalidSpecification, match=message):
        load(str(tmp_path / "t.csv"), target=target)


def test_a_file_that_is_not_there_is_told_with_the_nearest(file: Path) -> None:
    with pytest.raises(InvalidSpecification, match=r"no file '.*custmers\.csv'\. Did you mean 'customers\.csv'"):
        load(str(file.with_name("custmers.csv")), target="left")


def test_a_file_is_looked_for_beside_the_study(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = file.parent / "study.yaml"
    study.write_text(
        "study: s\ndata: {source: customers.csv, target: left}\ntrainable: trainables.table.families\n"
        "space: {C: {min: 0.1, max: 1.0}}\nobjective: {metric: val_auc, goal: maximize}\n"
    )
    monkeypatch.chdir("/")
    assert read_study_file(study).data.source == str(file)
    (file.parent / "sub").mkdir()
    moved = study.rename(file.parent / "sub" / "study.yaml")
    monkeypatch.chdir(file.parent)
    assert read_study_file(moved).data.source == str(file)


def test_auc_is_the_share_of_pairs_in_the_right_order() -> None:
    answers = np.array([0.1, 0.4, 0.4, 0.8, 0.3])
    y = np.array([0, 0, 1, 1, 1])
    pairs = [(a > b) + 0.5 * (a == b) for a in answers[y == 1] for b in answers[y == 0]]
    assert auc(np.column_stack([1 - answers, answers]), y) == pytest.approx(np.mean(pairs))
    assert auc(np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0])) == 1.0
    assert auc(np.ones((3, 2)) / 2, np.array([1, 1, 1])) == 0.5

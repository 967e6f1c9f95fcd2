from pathlib import Path

import pytest

from deploy.formats.sent_rows import CsvRows
from orchestrator.cli.rows import read_rows
from orchestrator.domain.errors import InvalidInput


@pytest.mark.parametrize(
    ("name", "text", "rows"),
    [
        ("a.json", '[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ("a.json", '{"rows": [[1, 2]]}', [[1, 2]]),
        ("a.json", '{"a": 1}', [{"a": 1}]),
        ("a.json", "[1, 2]", [[1, 2]]),
        ("a.jsonl", '{"a": 1}\n\n{"a": 2}\n', [{"a": 1}, {"a": 2}]),
        ("a.csv", 'a,b\n1,x\n3,\n"1,5","y\n"\n', CsvRows(("a", "b"), (("1", "x"), ("3", ""), ("1,5", "y\n")))),
        ("a.csv", "1,2\n3,4\n", [[1.0, 2.0], [3.0, 4.0]]),
    ],
)
def test_rows_are_read_in_every_form(name: str, text: str, rows: object, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    assert read_rows(path) == rows


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.json", "{", "cannot be understood"),
        ("a.json", "[]", "holds no rows"),
        ("a.json", "7", "a list of records"),
        ("a.csv", "a,b\n1\n", "row 1 has 1 cells"),
        ("a.csv", "a,b\n", "holds no rows"),
        ("a.csv", "1,2\n1,x\n", "where a number is needed"),
        ("a.csv", 'a,b\n"1,x\n', "unexpected end of data"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(name: str, text: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InvalidInput, match=reason):
        read_rows(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none\.json"):
        read_rows(tmp_path / "none.json")

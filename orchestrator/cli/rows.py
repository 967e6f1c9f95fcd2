"""Rows of a file, for an endpoint."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from deploy.formats.sent_rows import CsvRows
from orchestrator.domain.errors import InvalidInput

Row = Mapping[str, Any] | list[Any]
STDIN = "-"


def read_rows(path: Path) -> list[Row] | CsvRows:
    """Returns the rows: records by column, lists of cells in the columns' order, or those of a CSV file with names.

    Raises:
        InvalidInput: the file cannot be read, or holds no rows.
    """
    try:
        text = sys.stdin.read() if str(path) == STDIN else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read ({error}); give a .json, .jsonl or .csv file") from error
    read: Callable[[str], list[Row] | CsvRows] = {".csv": _from_csv, ".jsonl": _from_json_lines}.get(
        path.suffix.lower(), _from_json
    )
    try:
        rows = read(text)
    except ValueError as error:
        raise InvalidInput(f"{path} cannot be understood: {error}") from error
    if not rows:
        raise InvalidInput(f"{path} holds no rows")
    return rows


def _from_json(text: str) -> list[Row]:
    given = json.loads(text)
    if isinstance(given, Mapping) and "rows" in given:
        given = given["rows"]
    if isinstance(given, Mapping) or (isinstance(given, list) and given and not isinstance(given[0], Mapping | list)):
        given = [given]  # one row alone
    if not isinstance(given, list) or not all(isinstance(row, Mapping | list) for row in given):
        raise ValueError('it takes a list of records or of lists, or {"rows": [...]}')
    return given


def _from_json_lines(text: str) -> list[Row]:
    return [row for line in text.splitlines() if line.strip() for row in _from_json(line)]


def _from_csv(text: str) -> list[Row] | CsvRows:
    """Reads a table: below a line of names cells of any kind, without one numbers."""
    try:
        lines = [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if lines and not any(_is_number(cell) for cell in lines[0]):
        return CsvRows(
            tuple(lines[0]), tuple(tuple(_whole(line, i, len(lines[0]))) for i, line in _numbered(lines[1:]))
        )
    return [_numbers(line, i, len(lines[0])) for i, line in _numbered(lines)]


def _numbered(lines: list[list[str]]) -> Iterable[tuple[int, list[str]]]:
    return enumerate(lines, start=1)


def _whole(cells: list[str], row: int, width: int) -> list[str]:
    if len(cells) != width:
        raise ValueError(f"row {row} has {len(cells)} cells where there are {width} columns")
    return cells


def _numbers(cells: list[str], row: int, width: int) -> list[float | None]:
    _whole(cells, row, width)
    wrong = next((cell for cell in cells if cell.strip() and not _is_number(cell)), None)
    if wrong is not None:
        raise ValueError(f"row {row} has {wrong!r} where a number is needed")
    return [float(cell) if cell.strip() else None for cell in cells]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


_READERS: Mapping[str, Callable[[str], list[Row] | CsvRows]] = {".csv": _from_csv, ".jsonl": _from_json_lines}

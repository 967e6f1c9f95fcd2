"""Rows as CSV (RFC 4180): a line of column names in any order, a row a line, commas, UTF-8.

What counts as missing is the same as in a CSV file of training data.
"""

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import ColumnKind, Schema, Table
from deploy.formats.rows import rows_of_columns, too_many_rows
from deploy.http.asgi import Refusal

MISSING = frozenset({"", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL"})
TRUTHS = {"true": True, "false": False}


def parse_csv(body: bytes, schema: Schema, limit: int) -> NDArray[np.float32] | Table:
    """Returns the rows of a CSV body.

    Raises:
        Refusal: 400 when it is no CSV in UTF-8, 422 naming the line and column that do not fit, 413 for too many rows.
    """
    names, lines = _read(body, limit)
    kinds, known = {column.name: column.kind for column in schema.raw}, frozenset(schema.columns)
    columns = {
        name: _cells([line[j] for line in lines], name, kinds.get(name, ColumnKind.NUMBER))
        for j, name in enumerate(names)
        if name in known
    }
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        columns[unknown] = []  # the refusal says what is known
    if not lines:
        raise Refusal(422, "There are no rows below the line of names. Send one or more.")
    return rows_of_columns(columns, schema, limit)


def _read(body: bytes, limit: int) -> tuple[Sequence[str], list[list[str]]]:
    try:
        reader = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        names = next(reader, [])
        lines: list[list[str]] = []
        for line in reader:
            if not line and len(names) > 1:
                continue  # an empty line; of a single column it is a row with nothing in it
            lines.append(line or [""])
            if len(lines) > limit:
                raise too_many_rows(len(lines), limit)
            if len(lines[-1]) != len(names):
                raise Refusal(
                    422, f"Line {reader.line_num} has {len(line)} cells where {len(names)} columns are named."
                )
    except (UnicodeDecodeError, csv.Error) as error:
        raise Refusal(400, f"The body is no CSV in UTF-8: {error}.") from error
    counts = Counter(names)
    twice = next((name for name in names if counts[name] > 1), None)
    if not names or twice is not None:
        what = f"names the column '{twice}' twice" if names else "is empty"
        raise Refusal(422, f"The first line {what}; name each column once.")
    return names, lines


def _cells(texts: Sequence[str], name: str, kind: ColumnKind) -> list[Any]:
    read = _READERS.get(kind, str)
    try:
        return [None if text in MISSING else read(text) for text in texts]
    except ValueError:
        row = next(row for row, text in enumerate(texts) if text not in MISSING and not _is_readable(read, text))
        needed = "a number" if kind is ColumnKind.NUMBER else "true or false"
        raise Refusal(
            422, f"Row {row}, column '{name}': a text ({texts[row][:40]!r}) was given, {needed} is needed."
        ) from None


def _is_readable(read: Callable[[str], Any], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


def _truth(text: str) -> bool:
    truth = TRUTHS.get(text.strip().lower())
    if truth is None:
        raise ValueError(text)
    return truth


_READERS: Mapping[ColumnKind, Callable[[str], Any]] = {ColumnKind.NUMBER: float, ColumnKind.BOOL: _truth}

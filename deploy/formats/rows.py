"""From plain data to rows: every way in which a client can be wrong is answered with what is wrong."""

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from deploy.bundle import RawRow, Schema, Table, json_word
from deploy.http.asgi import Refusal
from orchestrator.domain.errors import BundleError, did_you_mean

LARGEST = float(np.finfo(np.float32).max)
NUMBERS = {int, float}  # bool is none: True is more often a mistake than a 1


def parse_json(body: bytes) -> Any:
    """Returns the data in a JSON body.

    Raises:
        Refusal: 400, when it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        hint = " JSON has no NaN or Infinity." if b"NaN" in body or b"Infinity" in body else ""
        raise Refusal(400, f"The body is not JSON: {error}.{hint}") from error


def parse_rows(given: Any, schema: Schema, limit: int) -> NDArray[np.float32] | Table:
    """Returns the rows (n, features) of a `/predict` body: `{"rows": [...]}`, the list itself, or `{"columns": {...}}`.

    A row is a record `{column: number}` or a list of numbers in the order of the columns; columns are lists by name.
    Where the model takes raw rows, a cell is what the schema says of its column, or null where it may be missing.

    Raises:
        Refusal: 400 or 422, naming the row and the column; 413 for more than `limit` rows.
    """
    if isinstance(given, dict) and "columns" in given:
        return rows_of_columns(_column_lists(given), schema, limit)
    return rows_of_list(_row_list(given), schema, limit)


def rows_of_columns(columns: Mapping[str, Sequence[Any]], schema: Schema, limit: int) -> NDArray[np.float32] | Table:
    """Returns the rows of columns of cells by name, in any order; see `parse_rows`."""
    unknown = next((name for name in columns if name not in schema.columns), None)
    if unknown is not None:
        raise Refusal(422, f"There is no column '{unknown}'.{_hint(unknown, schema)}")
    missing = next((name for name in schema.columns if name not in columns), None)
    if missing is not None:
        raise Refusal(422, f"The column '{missing}' is missing. Send all {schema.features} columns.")
    cells = [columns[name] for name in schema.columns]
    other = next((name for name in schema.columns if len(columns[name]) != len(cells[0])), None)
    if other is not None:
        sizes = f"'{schema.columns[0]}' has {len(cells[0])} cells, '{other}' has {len(columns[other])}"
        raise Refusal(422, f"The columns differ in length: {sizes}.")
    if len(cells[0]) > limit:
        raise too_many_rows(len(cells[0]), limit)
    return rows_of_list([list(row) for row in zip(*cells, strict=True)], schema, limit)


def rows_of_list(rows: list[Any], schema: Schema, limit: int) -> NDArray[np.float32] | Table:
    """Returns the rows of records or lists of cells; see `parse_rows`."""
    if not rows:
        raise Refusal(422, "There are no rows. Send one or more.")
    if len(rows) > limit:
        raise too_many_rows(len(rows), limit)
    if schema.raw:
        return to_table(rows, schema)
    return to_matrix([_row(row, number, schema) for number, row in enumerate(rows)], schema)


def numbers_at_once(rows: list[Any], schema: Schema) -> NDArray[np.float32] | None:
    """Returns rows (n, features) that are lists of finite numbers, without a look at each cell; None where one is not.

    No cell may be a text or a truth value, which numpy would take for a number.
    """
    try:
        if len(rows) == 1:
            return _one_row(rows[0]) if len(rows[0]) == schema.features else None
        if set(map(len, rows)) != {schema.features}:
            return None
        with np.errstate(over="ignore"):
            flat = np.fromiter(chain.from_iterable(rows), np.float32, len(rows) * schema.features)
    except (TypeError, ValueError, OverflowError):
        return None
    return flat.reshape(len(rows), schema.features) if np.isfinite(flat).all() else None


def _one_row(row: Sequence[float]) -> NDArray[np.float32] | None:
    """Returns a row of numbers as a matrix; None where one of them may be too large for float32."""
    if not math.hypot(*row) <= LARGEST:  # no number of it is larger; NaN is not below
        return None
    return np.fromiter(row, np.float32, len(row))[np.newaxis]


def to_table(rows: Sequence[RawRow], schema: Schema) -> Table:
    """Returns raw rows as a table.

    Raises:
        Refusal: 422, naming the row and the column that do not fit.
    """
    try:
        return Table.of_rows(schema.raw, rows)
    except BundleError as error:
        raise Refusal(422, str(error)) from error


def too_many_rows(count: int, limit: int) -> Refusal:
    """Returns the refusal of a request with more rows than it may have."""
    return Refusal(413, f"There are {count} rows; a request may have {limit}. Send them in several requests.")


def to_matrix(rows: Sequence[Sequence[float]] | NDArray[np.float64], schema: Schema) -> NDArray[np.float32]:
    """Returns numbers (n, features) as float32.

    Raises:
        Refusal: 422, when one of them is too large for float32.
    """
    one = _one_row(rows[0]) if len(rows) == 1 else None
    if one is not None:
        return one
    with np.errstate(over="ignore"):
        matrix = np.array(rows, dtype=np.float32)
    if not np.isfinite(matrix).all():
        row, column = (int(index) for index in np.argwhere(~np.isfinite(matrix))[0])
        given = float(rows[row][column])
        raise Refusal(422, f"Row {row}, column '{schema.columns[column]}': {given!r} is no finite float32 number.")
    return matrix


def _column_lists(given: dict[str, Any]) -> dict[str, list[Any]]:
    other = next((name for name in given if name != "columns"), None)
    if other is not None:
        raise Refusal(422, f"The body has 'columns' and '{other}'; give the rows in one way: 'rows' or 'columns'.")
    columns = given["columns"]
    if not isinstance(columns, dict) or not all(isinstance(cells, list) for cells in columns.values()):
        raise Refusal(422, 'Give \'columns\' as {"columns": {"name": [cell, ...], ...}}.')
    return columns


def _row_list(given: Any) -> list[Any]:
    if isinstance(given, dict):
        unknown = next((name for name in given if name != "rows"), None)
        if unknown is not None:
            raise Refusal(422, f"The body has the unknown key '{unknown}'; it takes 'rows' or 'columns'.")
        given = given.get("rows")
    if not isinstance(given, list):
        raise Refusal(422, f'The body holds {json_word(given)}; send {{"rows": [...]}} or a list of rows.')
    return given


def _row(given: Any, number: int, schema: Schema) -> list[float]:
    if isinstance(given, dict):
        row = _from_record(given, number, schema)
    elif isinstance(given, list):
        row = given
    else:
        raise Refusal(422, f"Row {number} is {json_word(given)}; send a record of columns or a list of numbers.")
    if len(row) != schema.features:
        raise Refusal(422, f"Row {number} has {len(row)} numbers; this model takes {schema.features}.")
    if not set(map(type, row)) <= NUMBERS:
        raise _wrong_type(row, number, schema)
    return row


def _from_record(record: dict[str, Any], number: int, schema: Schema) -> list[Any]:
    if len(record) == schema.features:
        try:
            return [record[name] for name in schema.columns]
        except KeyError:
            pass
    unknown = next((name for name in record if name not in schema.columns), None)
    if unknown is not None:
        raise Refusal(422, f"Row {number} has the unknown column '{unknown}'.{_hint(unknown, schema)}")
    missing = next(name for name in schema.columns if name not in record)
    raise Refusal(422, f"Row {number} lacks the column '{missing}'. Send all {schema.features} columns.")


def _wrong_type(row: list[Any], number: int, schema: Schema) -> Refusal:
    column = next(index for index, value in enumerate(row) if type(value) not in NUMBERS)
    return Refusal(
        422, f"Row {number}, column '{schema.columns[column]}': {json_word(row[column])} was given, a number is needed."
    )


def _hint(unknown: str, schema: Schema) -> str:
    return did_you_mean(unknown, schema.columns) or f" Known are {_some(schema.columns)}."


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown

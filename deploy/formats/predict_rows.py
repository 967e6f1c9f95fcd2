"""The rows of a `/predict` body, read as its kind says."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Schema, Table
from deploy.formats.csv_rows import parse_csv
from deploy.formats.rows import numbers_at_once, parse_json, parse_rows
from deploy.http.media import ARROW, CSV

FEW = 4  # rows, up to which a look at each cell takes no longer; a single one is read at once all the same


def read_rows(media: str, body: bytes, schema: Schema, limit: int) -> NDArray[np.float32] | Table:
    """Returns the rows (n, features), n of 1 to `limit`.

    Raises:
        Refusal: 4xx, with what is wrong and where.
    """
    if media == CSV:
        return parse_csv(body, schema, limit)
    if media == ARROW:
        from deploy.formats.arrow_rows import parse_arrow  # loads pyarrow, which few requests need

        return parse_arrow(body, schema, limit)
    given = parse_json(body)
    rows = given.get("rows") if isinstance(given, dict) else given
    if isinstance(rows, list) and not schema.raw and (len(rows) == 1 or FEW < len(rows) <= limit):
        matrix = numbers_at_once(rows, schema) if _is_of_numbers(body, given) else None
        if matrix is not None:
            return matrix
    return parse_rows(given, schema, limit)


def _is_of_numbers(body: bytes, given: Any) -> bool:
    """Returns whether no cell is a text or a truth value: the only text is the key of the rows, where they have one."""
    return body.count(b'"') == (2 if isinstance(given, dict) else 0) and b"true" not in body and b"false" not in body

"""The rows of a `/predict` body, read as its kind says."""

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Schema, Table
from deploy.formats.csv_rows import parse_csv
from deploy.formats.rows import parse_json, parse_rows
from deploy.http.media import ARROW, CSV


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
    return parse_rows(parse_json(body), schema, limit)

"""Rows as a client has them, as bodies that an endpoint takes: JSON, CSV, or an Arrow IPC stream for a table."""

import csv
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from deploy.http.media import ARROW, CSV, JSON
from orchestrator.domain.errors import EndpointError


@dataclass(frozen=True, slots=True)
class Payload:
    """A body and its kind."""

    body: bytes
    media: str


@dataclass(frozen=True, slots=True)
class CsvRows:
    """Rows out of a CSV file, their cells as they were written: the endpoint knows what each column is."""

    names: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, part: slice) -> "CsvRows":
        return CsvRows(self.names, self.lines[part])

    def to_bytes(self) -> bytes:
        """Returns the rows as CSV, below a line of names."""
        text = io.StringIO(newline="")
        csv.writer(text).writerows([self.names, *self.lines])
        return text.getvalue().encode()


@dataclass(frozen=True, slots=True, eq=False)
class SentRows:
    """Rows that can be cut: a list, an array, or a pyarrow table where `is_table`."""

    rows: Any
    is_table: bool

    @classmethod
    def of(cls, rows: Any) -> "SentRows":
        """Returns the rows of a list, an array, or whatever gives an Arrow stream: a table of pyarrow, pandas, polars.

        Raises:
            EndpointError: they are nothing of that.
        """
        if _is_pandas(rows) or hasattr(rows, "__arrow_c_stream__") or hasattr(rows, "__arrow_c_array__"):
            return cls(_table(rows), True)
        if isinstance(rows, np.ndarray):
            if rows.ndim != 2:
                raise EndpointError(f"The array has shape {rows.shape}; give (rows, columns).")
            return cls(rows, False)
        if isinstance(rows, str | bytes | dict) or not hasattr(rows, "__getitem__"):
            raise EndpointError(
                f"Rows came as {type(rows).__name__}; give a list of records or of lists, an array (rows, columns), or "
                "a table of pyarrow, pandas or polars."
            )
        return cls(rows, False)

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, start: int, end: int) -> "SentRows":
        """Returns the rows from `start` up to `end`, or as many as there are."""
        if start == 0 and end >= len(self):
            return self
        if self.is_table:
            return SentRows(self.rows.slice(start, end - start), True)
        return SentRows(self.rows[start:end], False)

    def payload(self) -> Payload:
        """Returns the body.

        Raises:
            EndpointError: a cell is nothing that JSON could say.
        """
        if self.is_table:
            return Payload(_stream(self.rows), ARROW)
        if isinstance(self.rows, CsvRows):
            return Payload(self.rows.to_bytes(), CSV)
        try:
            body = orjson.dumps({"rows": self.rows}, option=orjson.OPT_SERIALIZE_NUMPY, default=_plain)
        except TypeError as error:
            raise EndpointError(f"The rows cannot be sent ({error}); give numbers, texts, truths and dates.") from error
        return Payload(body, JSON)


def _plain(value: Any) -> Any:
    """Returns what orjson does not know as something it does: an array of odd layout, a numpy text."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return list(value)


def _table(given: Any) -> Any:
    import pyarrow as pa  # loaded here: who sends records does not need it

    try:
        table = pa.Table.from_pandas(given, preserve_index=False) if _is_pandas(given) else pa.table(given)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise EndpointError(f"The table cannot be sent: {error}") from error
    return table.replace_schema_metadata(None)


def _is_pandas(rows: Any) -> bool:
    return type(rows).__name__ == "DataFrame" and type(rows).__module__.partition(".")[0] == "pandas"


def _stream(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    content: bytes = sink.getvalue().to_pybytes()
    return content

"""Tables in files: CSV, Parquet, and Arrow's own format, from a path or any address that pyarrow opens."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, feather, fs, parquet

from orchestrator.domain.errors import InvalidSpecification, did_you_mean

MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL")  # what people write where nothing is known
Reader = Callable[[Any], pa.Table]


def is_table_file(source: str) -> bool:
    """Returns whether a source of data is a file of a kind that is read here."""
    return _suffix(source) is not None


def read_table_file(source: str) -> pa.Table:
    """Returns the table in a file; types of a CSV's columns are found from all that its first megabyte holds.

    Raises:
        InvalidSpecification: there is no such file, it cannot be read, or it is no table.
    """
    suffix = _suffix(source)
    assert suffix is not None
    try:
        system, path = _place(source)
        with system.open_input_file(path) as file:
            table = _READERS[suffix](file)
    except FileNotFoundError as error:
        raise _no_file(source) from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidSpecification(f"'{source}' cannot be read as {suffix}: {error}") from error
    twice = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if twice:
        raise InvalidSpecification(f"'{source}' has several columns named '{twice[0]}'; give each a name of its own")
    if table.num_rows == 0:
        raise InvalidSpecification(f"'{source}' has no rows")
    return table.replace_schema_metadata(None)


def _suffix(source: str) -> str | None:
    return next((suffix for suffix in _READERS if source.lower().endswith(suffix)), None)


def _place(source: str) -> tuple[fs.FileSystem, str]:
    if "://" in source:
        system, path = fs.FileSystem.from_uri(source)
        return system, path
    return fs.LocalFileSystem(), str(Path(source).expanduser().absolute())


def _no_file(source: str) -> InvalidSpecification:
    path = Path(source).expanduser().absolute()
    beside = [other.name for other in path.parent.glob("*")] if "://" not in source and path.parent.is_dir() else []
    return InvalidSpecification(f"data.source: there is no file '{source}'.{did_you_mean(path.name, beside)}")


def _read_csv(file: Any) -> pa.Table:
    options = csv.ConvertOptions(null_values=list(MISSING), strings_can_be_null=True)
    return csv.read_csv(file, convert_options=options)


_READERS: dict[str, Reader] = {
    ".csv": _read_csv,
    ".parquet": parquet.read_table,
    ".arrow": feather.read_table,
    ".feather": feather.read_table,
}

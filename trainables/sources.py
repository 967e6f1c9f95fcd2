"""Where data comes from: scikit-learn's built-in sets, files of tables, and functions of the user's."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa

from orchestrator.domain.errors import InvalidSpecification, did_you_mean
from trainables.references import find
from trainables.table_files import is_table_file, read_table_file

NAMES_SHOWN = 20  # of a table's columns, in an error
UCI = "CC BY 4.0 (UCI Machine Learning Repository)"
SCIKIT_LEARN = "BSD-3-Clause (as a part of scikit-learn)"
BUILT_IN: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "breast_cancer": ("569 tumours, 30 measurements of cell nuclei each (Wolberg et al., 1995)", UCI),
        "diabetes": ("442 patients, 10 measurements, progression of diabetes (Efron et al., 2004)", SCIKIT_LEARN),
        "digits": ("1,797 handwritten digits, 8 x 8 pixels from 0 to 16 (Alpaydin and Kaynak, 1998)", UCI),
        "iris": ("150 iris flowers, 4 measurements each (Fisher, 1936)", UCI),
        "wine": ("178 wines, 13 chemical measurements each (Aeberhard and Forina, 1991)", UCI),
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """A table as it was found, and which of its columns is to be predicted."""

    table: pa.Table
    target: str
    description: str
    licence: str = "unknown"


def read_source(source: str, target: str | None) -> Source:
    """Returns the table that `source` names; see `trainables.data.load`."""
    place, _, name = source.partition(":")
    if place == "sklearn":
        return _built_in(name)
    if is_table_file(source):
        table = read_table_file(source)
        return Source(table, _target_in(table, target, source), source.rpartition("/")[2])
    if not name:
        raise InvalidSpecification(
            f"'{source}' is not a source of data; give 'sklearn:NAME' ({', '.join(BUILT_IN)}), a .csv, .parquet or "
            ".arrow file, or 'module:function'"
        )
    return _from_function(source, target)


def _built_in(name: str) -> Source:
    if name not in BUILT_IN:
        raise InvalidSpecification(
            f"scikit-learn has no built-in set '{name}' here; known are {', '.join(BUILT_IN)}."
            f"{did_you_mean(name, BUILT_IN)}"
        )
    # scikit-learn takes a second to import, and only these sources need it
    found = getattr(importlib.import_module("sklearn.datasets"), f"load_{name}")()
    labels = found.get("target_names")
    target = found.target if labels is None else np.asarray(labels)[found.target]
    description, licence = BUILT_IN[name]
    return Source(_table_of(found.data, target, list(found.feature_names)), "target", description, licence)


def _from_function(source: str, target: str | None) -> Source:
    function = find(source, InvalidSpecification).value
    if not callable(function):
        raise InvalidSpecification(f"'{source}' is {type(function).__name__}; give a function that returns the data")
    returned = function()
    description = (function.__doc__ or source).strip().splitlines()[0]
    if isinstance(returned, tuple) and len(returned) == 2:
        return Source(_table_of(*returned), "target", description)
    table = _as_table(source, returned)
    return Source(table, _target_in(table, target, source), description)


def _target_in(table: pa.Table, target: str | None, source: str) -> str:
    names = table.column_names
    if target is None:
        raise InvalidSpecification(f"data.target: say which column of '{source}' is to be predicted: {_some(names)}")
    if target not in names:
        raise InvalidSpecification(
            f"target '{target}' is not a column of '{source}'; it has {_some(names)}.{did_you_mean(target, names)}"
        )
    return target


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMES_SHOWN]) + (
        f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    )


def _as_table(source: str, returned: Any) -> pa.Table:
    if isinstance(returned, pa.Table):
        return returned
    if hasattr(returned, "to_dict") and hasattr(returned, "columns"):
        return pa.Table.from_pandas(returned, preserve_index=False).replace_schema_metadata(None)
    raise InvalidSpecification(
        f"'{source}' returned {type(returned).__name__}; return an Arrow table, a pandas table, or (inputs, targets)"
    )


def _table_of(inputs: Any, targets: Any, names: list[str] | None = None) -> pa.Table:
    """Returns inputs `(n_rows, n_features)` and targets `(n_rows,)` as one table; pandas keeps its column names."""
    if names is None and hasattr(inputs, "columns"):
        names = [str(name) for name in inputs.columns]
    x, y = np.asarray(inputs), np.asarray(targets)
    if x.ndim != 2 or y.shape != (len(x),):
        raise InvalidSpecification(
            f"inputs of shape {x.shape} and targets of shape {y.shape} are no table; "
            "return (n_rows, n_features) and (n_rows,)"
        )
    names = names or [f"feature_{i}" for i in range(x.shape[1])]
    columns = {name: pa.array(x[:, i]) for i, name in enumerate(names)}
    return pa.table({**columns, "target": pa.array(y)})

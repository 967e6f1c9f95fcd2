"""The model package: the wall between training and serving.

A bundle is an immutable, hashed directory that can be run without the code that trained it. `write_bundle`
publishes one, `Bundle.open` checks and loads it, `check_parity` compares its answers with the trained model's;
`Schema` says what it takes and gives, `Lineage` where it came from, `Profile` what its data looked like. `Table` holds
raw rows, and `TableEncoder` makes a model's inputs of them, in training as in serving.
"""

from deploy.bundle.baseline import constant_model
from deploy.bundle.columns import CategoryStep, DateStep, Encoding, NumberStep, TableEncoder
from deploy.bundle.lineage import Lineage
from deploy.bundle.manifest import FORMAT_VERSION
from deploy.bundle.parity import check_parity, odd_records, odd_rows
from deploy.bundle.profile import Distribution, Profile
from deploy.bundle.reading import Bundle, Prediction, Rows, local_directory, softmax
from deploy.bundle.schema import Gives, Kind, Label, Schema
from deploy.bundle.table import Column, ColumnKind, RawRow, Table, json_word
from deploy.bundle.writing import write_bundle

__all__ = [
    "FORMAT_VERSION",
    "Bundle",
    "CategoryStep",
    "Column",
    "ColumnKind",
    "DateStep",
    "Distribution",
    "Encoding",
    "Gives",
    "Kind",
    "Label",
    "Lineage",
    "NumberStep",
    "Prediction",
    "Profile",
    "RawRow",
    "Rows",
    "Schema",
    "Table",
    "TableEncoder",
    "check_parity",
    "constant_model",
    "json_word",
    "local_directory",
    "odd_records",
    "odd_rows",
    "softmax",
    "write_bundle",
]

"""The model package: the wall between training and serving.

A bundle is an immutable, hashed directory that can be run without the code that trained it. `write_bundle`
publishes one, `Bundle.open` checks and loads it, `check_parity` compares its answers with the trained model's;
`Schema` says what it takes and gives, `Lineage` where it came from.
"""

from deploy.bundle.baseline import constant_model
from deploy.bundle.lineage import Lineage
from deploy.bundle.manifest import FORMAT_VERSION
from deploy.bundle.parity import check_parity, odd_rows
from deploy.bundle.reading import Bundle, Prediction, local_directory, softmax
from deploy.bundle.schema import Gives, Kind, Label, Schema
from deploy.bundle.writing import write_bundle

__all__ = [
    "FORMAT_VERSION",
    "Bundle",
    "Gives",
    "Kind",
    "Label",
    "Lineage",
    "Prediction",
    "Schema",
    "check_parity",
    "constant_model",
    "local_directory",
    "odd_rows",
    "softmax",
    "write_bundle",
]

"""Models in training: the contract, the data they see, and the trainables that come with the program.

`contract` says what a trainable is; `data` loads, hashes and splits; `resolve` finds the user's code; `torch` and
`sklearn` hold the trainables, `table` the one for mixed tables; `testing` has cheap ones. Names are loaded when they
are first asked for, so that `import trainables` costs nothing.
"""

import importlib

_HOMES = {
    "Context": "contract",
    "Dataset": "data",
    "Split": "split",
    "TableSplit": "table_split",
    "Trainable": "contract",
    "baseline": "data",
    "example_row": "data",
    "load": "data",
    "resource_of": "contract",
}

__all__ = ["Context", "Dataset", "Split", "TableSplit", "Trainable", "baseline", "example_row", "load", "resource_of"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'trainables' has no attribute '{name}'")
    return getattr(importlib.import_module(f"trainables.{_HOMES[name]}"), name)

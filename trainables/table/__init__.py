"""The trainable for tables of mixed columns: model families behind a columns stage, cross-validated.

`preparation` fits the columns stage; `estimators` makes the families; `folds` deals rows; `families` is the trainable.
"""

from trainables.table.families import Families
from trainables.table.preparation import Preparation, fit_encoder

__all__ = ["Families", "Preparation", "fit_encoder"]

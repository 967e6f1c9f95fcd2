"""Which fold each row is held out in."""

import numpy as np
from numpy.typing import NDArray

from deploy.bundle import Kind


def deal_folds(y: NDArray[np.generic], kind: Kind, folds: int, seed: int) -> NDArray[np.int64]:
    """Returns each row's fold `(n_rows,)`, from 0; classes keep their proportions, and sizes differ by one at most.

    Rows are shuffled within their class and dealt like cards, one class after the other; numpy's legacy generator, so
    that the same seed gives the same folds with every later release.
    """
    generator = np.random.RandomState(seed)
    order = generator.permutation(len(y))
    if kind is Kind.CLASSIFICATION:
        order = order[np.argsort(y[order], kind="stable")]
    fold_of = np.empty(len(y), dtype=np.int64)
    fold_of[order] = np.arange(len(y)) % folds
    return fold_of

"""Random numbers that come from (study seed, trial number, purpose) and from nothing else."""

import random
from hashlib import sha256


def derive_seed(study_seed: int, trial: int, purpose: str) -> int:
    """Returns a seed in [0, 2**31), the same in every process and on every machine."""
    digest = sha256(f"{study_seed}/{trial}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def generator(study_seed: int, trial: int, purpose: str) -> random.Random:
    """Returns a generator of its own for one purpose of one trial."""
    return random.Random(derive_seed(study_seed, trial, purpose))

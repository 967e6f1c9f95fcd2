"""A trainable of the user's own: in no installed package, so that every host has to get it from the cluster."""

import time
from collections.abc import Mapping

from trainables.torch.mlp import MLP

STEP_SECONDS = 0.4


class SlowMLP(MLP):
    """The network of the first example, in no hurry."""

    def step(self) -> Mapping[str, float]:
        time.sleep(STEP_SECONDS)
        return super().step()

"""A trainable that takes its process with it, for one configuration."""

import os
import signal
from collections.abc import Mapping

from trainables.testing import Quadratic


class Deadly(Quadratic):
    """A bowl over a trap: the default configuration (trial 0) never returns."""

    def step(self) -> Mapping[str, float]:
        if self.height == 5.0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step()

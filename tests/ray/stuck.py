"""A trainable whose default configuration hangs in its second step."""

import time
from collections.abc import Mapping

from trainables.testing import Quadratic


class Stuck(Quadratic):
    """A bowl with a hole in it: the default configuration (trial 0) never comes back."""

    def step(self) -> Mapping[str, float]:
        if self.height == 5.0 and self.steps == 1:
            time.sleep(3600)
        return super().step()

"""A trainable whose steps take long enough to be killed in."""

import time
from collections.abc import Mapping

from trainables.testing import Quadratic


class Slowly(Quadratic):
    """A bowl, stepped slowly."""

    def step(self) -> Mapping[str, float]:
        time.sleep(0.2)
        return super().step()

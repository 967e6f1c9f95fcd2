"""A trainable that fails for every second configuration."""

from collections.abc import Mapping

from trainables.testing import Quadratic


class Faulty(Quadratic):
    """A bowl with a crack."""

    def step(self) -> Mapping[str, float]:
        if self.height > 15:
            raise RuntimeError("no luck")
        return super().step()

"""Layers that torch lacks, or has only with a global random generator."""

import torch
from torch import Tensor, nn

LARGEST_INPUT = 10.0  # standard deviations: a pixel that is nearly always 0 would else come in as 300


class Standardise(nn.Module):
    """Inputs to mean 0 and deviation 1, so that the model takes raw rows: `(n_rows, n_features)` both ways.

    A missing value (NaN) counts as the mean, and what lies far out counts as `LARGEST_INPUT` deviations, so that one
    strange number in a request cannot drown all others.
    """

    mean: Tensor  # (n_features,)
    factor: Tensor  # (n_features,), one over the deviation; 1 where a feature is constant

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("factor", factor)

    @classmethod
    def fitted_to(cls, rows: Tensor) -> "Standardise":
        """Returns the layer for `rows` `(n_rows, n_features)`, which may have missing values."""
        known = ~rows.isnan()
        counts = known.sum(dim=0).clamp(min=1)
        filled = rows.nan_to_num(nan=0.0).double()
        mean = filled.sum(dim=0) / counts
        variance = (((filled - mean) * known) ** 2).sum(dim=0) / counts
        factor = torch.where(variance > 0, variance.clamp(min=1e-24).rsqrt(), 1.0)
        return cls(mean.float(), factor.float())

    def forward(self, rows: Tensor) -> Tensor:
        """Returns the standardised rows."""
        return ((rows - self.mean) * self.factor).nan_to_num(nan=0.0).clamp(-LARGEST_INPUT, LARGEST_INPUT)


class Rescale(nn.Module):
    """Standardised outputs `(n_rows, 1)` back to the target's own scale."""

    mean: Tensor  # ()
    deviation: Tensor  # ()

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("deviation", torch.tensor(deviation))

    def forward(self, outputs: Tensor) -> Tensor:
        """Returns values in the target's scale."""
        return outputs * self.deviation + self.mean


class SeededDropout(nn.Module):
    """Dropout (Srivastava et al., 2014) that draws from a generator of its own instead of torch's global one."""

    def __init__(self, rate: float, generator: torch.Generator) -> None:
        super().__init__()
        self.rate = rate
        self.generator = generator

    def forward(self, values: Tensor) -> Tensor:
        """Returns the values, in training with a share of them set to 0 and the rest made larger by as much."""
        if not self.training or self.rate == 0.0:
            return values
        kept = torch.rand(values.shape, generator=self.generator, device=values.device) >= self.rate
        return values * kept / (1.0 - self.rate)

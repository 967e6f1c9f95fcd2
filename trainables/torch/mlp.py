"""A multilayer perceptron: one step is one epoch.

Rectified linear layers (He et al., 2015, for their first weights) with dropout, trained by Adam, AdamW or SGD. All
randomness of an epoch comes from (trial seed, epoch), so that a model that was saved and loaded goes on exactly as
if it had never stopped. Inputs are standardised inside the model: it is trained on, and served with, raw rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deploy.bundle import Kind, Lineage
from orchestrator.domain.errors import InvalidTrainable, did_you_mean
from orchestrator.domain.seeds import derive_seed
from trainables.contract import Context, Resource
from trainables.metrics import scores
from trainables.publish import publish
from trainables.split import Split
from trainables.table_split import require_numbers
from trainables.torch.export import to_onnx
from trainables.torch.layers import Rescale, SeededDropout, Standardise

OPTIMIZERS = ("adam", "adamw", "sgd")


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be tuned; the values are those of somebody who does not tune."""

    lr: float = 1e-3
    layers: int = 2  # hidden ones
    width: int = 64  # of each
    optimizer: str = "adam"
    momentum: float = 0.9  # of sgd
    dropout: float = 0.0
    weight_decay: float = 0.0
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise InvalidTrainable(
                f"optimizer '{self.optimizer}' is not known; take one of {', '.join(OPTIMIZERS)}."
                f"{did_you_mean(str(self.optimizer), OPTIMIZERS)}"
            )
        if self.lr <= 0 or self.layers < 0 or self.width < 1 or self.batch_size < 1 or not 0 <= self.dropout < 1:
            raise InvalidTrainable(
                f"{self} cannot be trained; lr must be above 0, layers 0 or more, width and batch_size 1 or more, "
                "dropout in [0, 1)"
            )

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "Settings":
        """Returns a configuration's settings; what it leaves out has its default."""
        known = [field.name for field in fields(cls)]
        for name in params:
            if name not in known:
                raise InvalidTrainable(
                    f"the MLP has no parameter '{name}'; it has {', '.join(known)}.{did_you_mean(name, known)}"
                )
        return cls(**params)


class MLP:
    """The network, its optimiser and its epoch; metrics are `train_loss`, `val_loss` and `val_accuracy`.

    For regression they are `train_loss` (of the standardised target), `val_loss`, `val_rmse` and `val_r2`.
    """

    defaults: ClassVar[Mapping[str, Any]] = {k: v for k, v in asdict(Settings()).items() if k != "momentum"}
    resource: ClassVar[Resource] = "rounds"

    def build(self, params: Mapping[str, Any], data: Split, context: Context) -> None:
        """Makes the untrained network; its first weights come from the trial's seed."""
        require_numbers(data, type(self).__name__)
        torch.set_num_threads(context.threads)
        self.settings = Settings.of(params)
        self.data = data
        self.seed = context.seed
        self.device = torch.device(context.device)
        self.epoch = 0
        self.noise = torch.Generator(self.device)  # of an epoch: its order of rows, and dropout
        rows = torch.tensor(data.train_x)
        standardise = Standardise.fitted_to(rows)
        answer = self._prepare_target(torch.tensor(data.train_y))
        self.body = self._make_body()
        self.model = nn.Sequential(standardise, self.body, answer).to(self.device)
        self.x = standardise(rows.to(self.device))  # (n_rows, n_features), once instead of in each epoch
        self.optimizer = _make_optimizer(self.settings, self.body)

    def _prepare_target(self, y: Tensor) -> nn.Module:
        """Keeps the target and the loss to train with; returns the layer that makes an answer of the body's output."""
        if self.data.kind is Kind.CLASSIFICATION:
            self.n_outputs = len(self.data.classes)
            self.loss: Callable[[Tensor, Tensor], Tensor] = nn.functional.cross_entropy
            self.y = y.to(self.device)
            return nn.Softmax(dim=1)
        self.n_outputs, self.loss = 1, nn.functional.mse_loss
        mean, deviation = float(y.mean()), float(y.std()) or 1.0
        self.y = ((y - mean) / deviation).unsqueeze(1).to(self.device)
        return Rescale(mean, deviation)

    def _make_body(self) -> nn.Sequential:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, 0, "weights"))
        sizes = [self.data.n_features, *[self.settings.width] * self.settings.layers]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [_linear(n_in, n_out, generator), nn.ReLU(), SeededDropout(self.settings.dropout, self.noise)]
        return nn.Sequential(*layers, _linear(sizes[-1], self.n_outputs, generator))

    def step(self) -> Mapping[str, float]:
        """Trains one epoch, then answers the validation rows."""
        self.epoch += 1
        self.noise.manual_seed(derive_seed(self.seed, self.epoch, "epoch"))
        order = torch.randperm(len(self.x), generator=self.noise, device=self.device)
        self.body.train()
        total = torch.zeros((), device=self.device)
        for x, y in zip(*(rows[order].split(self.settings.batch_size) for rows in (self.x, self.y)), strict=True):
            loss = self.loss(self.body(x), y)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            total += loss.detach() * len(x)
        validated = scores(self.data.kind, self.predict(self.data.validation_x), self.data.validation_y)
        return {"train_loss": float(total) / len(order), **{f"val_{name}": value for name, value in validated.items()}}

    def save(self, directory: Path) -> None:
        """Writes weights, the optimiser's memory and the epoch; randomness follows from the epoch."""
        state = {"epoch": self.epoch, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save(state, directory / "state.pt")

    def load(self, directory: Path) -> None:
        """Reads what `save` wrote."""
        state = torch.load(directory / "state.pt", map_location=self.device, weights_only=True)
        self.epoch = int(state["epoch"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])

    def predict(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns class probabilities `(n_rows, n_classes)` or values `(n_rows,)`."""
        self.model.eval()
        with torch.inference_mode():
            answers: NDArray[np.float32] = self.model(torch.tensor(rows, device=self.device)).cpu().numpy()
        return answers if self.data.kind is Kind.CLASSIFICATION else answers[:, 0]

    def export(self, directory: Path, lineage: Lineage) -> None:
        """Writes the network as a bundle that takes raw rows.

        Raises:
            BundleError: the bundle does not answer as the network does.
        """
        publish(directory, to_onnx(self.model, self.data.n_features), self.data, self.predict, lineage)


def _linear(n_in: int, n_out: int, generator: torch.Generator) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, device="meta").to_empty(device="cpu")  # with no draw from the global generator
    nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def _make_optimizer(settings: Settings, body: nn.Module) -> torch.optim.Optimizer:
    """Returns the optimiser; fused ones spend a third less time on an epoch of small layers."""
    common: dict[str, Any] = {"lr": settings.lr, "weight_decay": settings.weight_decay, "fused": True}
    if settings.optimizer == "sgd":
        return torch.optim.SGD(body.parameters(), momentum=settings.momentum, **common)
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(body.parameters(), **common)

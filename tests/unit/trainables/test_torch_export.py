import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from orchestrator.domain.errors import BundleError, InvalidTrainable
from trainables.contract import Context
from trainables.data import load, split
from trainables.torch import MLP, to_onnx
from trainables.torch.layers import Rescale, Standardise


def answers(model: bytes, rows: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"rows": rows})


def rows(n: int = 5) -> np.ndarray:
    given = np.random.RandomState(0).normal(size=(n, 6)).astype(np.float32) * 3
    given[0] = [np.nan, np.inf, -np.inf, 1e30, -1e30, 0]
    return given


def standardise() -> Standardise:
    return Standardise.fitted_to(torch.tensor(rows(50)[1:]))


@pytest.mark.parametrize(
    "middle",
    [
        [nn.ReLU()],
        [nn.Tanh(), nn.Dropout(0.5)],
        [nn.Sigmoid(), nn.Identity()],
        [nn.BatchNorm1d(8), nn.ReLU()],
        [nn.BatchNorm1d(8, affine=False)],
        [nn.Sequential(nn.ReLU(), nn.Linear(8, 8, bias=False))],
    ],
    ids=str,
)
def test_a_chain_of_known_layers_answers_alike(middle: list[nn.Module]) -> None:
    model = nn.Sequential(standardise(), nn.Linear(6, 8), *middle, nn.Linear(8, 3), nn.Softmax(dim=1))
    model(torch.tensor(rows()[1:]))  # moves the batch norm's statistics
    exported = to_onnx(model, 6)
    assert model.training, "exporting must not change the model"
    model.eval()
    for n in (1, 5):
        (probabilities,) = answers(exported, rows(n))
        expected = model(torch.tensor(rows(n))).detach().numpy()
        assert np.abs(probabilities - expected).max() < 1e-6


def test_values_come_in_the_targets_scale() -> None:
    model = nn.Sequential(standardise(), nn.Linear(6, 1), Rescale(100.0, 20.0))
    (values,) = answers(to_onnx(model, 6), rows())
    assert np.allclose(values, model(torch.tensor(rows())).detach().numpy(), atol=1e-4)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + nn.functional.gelu(self.linear(x))


def test_any_other_module_goes_through_torchs_exporter() -> None:
    model = nn.Sequential(Residual(), nn.Linear(6, 3), nn.Softmax(dim=1))
    exported = to_onnx(model, 6)
    for n in (1, 7):
        given = np.nan_to_num(rows(n), posinf=1, neginf=1).clip(-5, 5)
        (probabilities,) = answers(exported, given)
        expected = model(torch.tensor(given)).detach().numpy()
        assert np.abs(probabilities - expected).max() < 1e-5


def test_a_batch_norm_without_statistics_is_refused() -> None:
    with pytest.raises(BundleError, match="track_running_stats=True"):
        to_onnx(nn.Sequential(nn.BatchNorm1d(6, track_running_stats=False)), 6)


def test_constant_and_missing_inputs_are_standardised() -> None:
    layer = Standardise.fitted_to(torch.tensor([[1.0, 2.0, 5.0], [3.0, 2.0, float("nan")]]))
    out = layer(torch.tensor([[3.0, 2.0, float("nan")], [1.0, 2.0, 5.0]]))
    assert out.tolist() == [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"learning_rate": 0.1}, "has no parameter 'learning_rate'"),
        ({"optimiser": "adam"}, "Did you mean 'optimizer'"),
        ({"optimizer": "adamm"}, "Did you mean 'adamw?'"),
        ({"lr": 0.0}, "lr must be above 0"),
        ({"dropout": 1.0}, "dropout in"),
    ],
)
def test_a_wrong_configuration_is_refused(params: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidTrainable, match=message):
        MLP().build(params, split(load("sklearn:iris")), Context(0))


def test_untuned_settings_learn_digits() -> None:
    data, model = split(load("sklearn:digits")), MLP()
    model.build(MLP.defaults, data, Context(0))
    for _ in range(20):
        metrics = model.step()
    assert metrics["val_accuracy"] > 0.94
    assert metrics["train_loss"] < 0.05

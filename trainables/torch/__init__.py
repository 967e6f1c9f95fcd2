"""Trainables in PyTorch: `mlp` is a small network in one readable file, `layers` and `export` serve it and others."""

from trainables.torch.export import to_onnx
from trainables.torch.mlp import MLP

__all__ = ["MLP", "to_onnx"]

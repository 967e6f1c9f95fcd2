"""A torch module as an ONNX model: written layer by layer where every layer is known, else by torch's exporter.

Writing a chain of known layers takes about a millisecond; torch's exporter seconds the first time in a process, and
half a second later. Both are held to the same comparison with the trained module before anything is served.
"""

import copy
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from orchestrator.domain.errors import BundleError
from trainables.torch.layers import LARGEST_INPUT, Rescale, SeededDropout, Standardise

OPSET = 17  # the first with LayerNormalization; every onnxruntime since 1.12 runs it
IR_VERSION = 8  # goes with that opset
INPUT_NAME = "rows"


def to_onnx(model: nn.Module, n_features: int) -> bytes:
    """Returns the serialised model; it takes `rows` `(n_rows, n_features)`, any number of them.

    A model whose last layer is `nn.Softmax` gives `probabilities` `(n_rows, n_classes)`, any other `values`. It is
    exported as it predicts, not as it trains, and is left as it was.
    """
    layers = list(_flatten(model))
    if all(type(layer) in _WRITERS for layer in layers):
        return _write_chain(layers, n_features)
    return _by_torch(model, n_features, _is_classifier(layers))


def _flatten(model: nn.Module) -> Iterator[nn.Module]:
    """Yields a chain's layers; a subclass may override `forward`, so only `nn.Sequential` itself is opened."""
    if type(model) is not nn.Sequential:
        yield model
        return
    for layer in model:
        yield from _flatten(layer)


def _is_classifier(layers: list[nn.Module]) -> bool:
    return isinstance(layers[-1], nn.Softmax)


@dataclass(slots=True)
class _Graph:
    """Nodes and constants so far; `end` is the name of the last value."""

    end: str = INPUT_NAME
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, value: Tensor | NDArray[Any]) -> str:
        """Returns the name of a new constant."""
        name = f"constant_{len(self.constants)}"
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else value
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def apply(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node and returns the name of its result; without inputs it takes the last value."""
        name = f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs) or [self.end], [name], **attributes))
        return name


def _standardise(graph: _Graph, layer: Standardise) -> str:
    centred = graph.apply("Sub", graph.end, graph.constant(layer.mean))
    scaled = graph.apply("Mul", centred, graph.constant(layer.factor))
    zero = graph.constant(np.zeros((), np.float32))
    known = graph.apply("Where", graph.apply("IsNaN", scaled), zero, scaled)
    limits = (np.asarray(limit, np.float32) for limit in (-LARGEST_INPUT, LARGEST_INPUT))
    return graph.apply("Clip", known, *(graph.constant(limit) for limit in limits))


def _rescale(graph: _Graph, layer: Rescale) -> str:
    stretched = graph.apply("Mul", graph.end, graph.constant(layer.deviation))
    return graph.apply("Add", stretched, graph.constant(layer.mean))


def _linear(graph: _Graph, layer: nn.Linear) -> str:
    bias = [] if layer.bias is None else [graph.constant(layer.bias)]
    return graph.apply("Gemm", graph.end, graph.constant(layer.weight), *bias, transB=1)


def _batch_norm(graph: _Graph, layer: nn.BatchNorm1d) -> str:
    """Folds what was learnt into one product and one sum per feature, as it is when predicting."""
    if layer.running_mean is None or layer.running_var is None:
        raise BundleError(
            "BatchNorm1d(track_running_stats=False) answers a row by the other rows of its request and cannot be "
            "served; train with track_running_stats=True"
        )
    factor = (layer.running_var + layer.eps).rsqrt()
    factor = factor if layer.weight is None else factor * layer.weight
    shift = -layer.running_mean * factor
    shift = shift if layer.bias is None else shift + layer.bias
    return graph.apply("Add", graph.apply("Mul", graph.end, graph.constant(factor)), graph.constant(shift))


def _softmax(graph: _Graph, layer: nn.Softmax) -> str:
    return graph.apply("Softmax", axis=1)


def _same(graph: _Graph, layer: nn.Module) -> str:
    return graph.end


_WRITERS: Mapping[type[nn.Module], Callable[[_Graph, Any], str]] = MappingProxyType(
    {
        nn.BatchNorm1d: _batch_norm,
        nn.Dropout: _same,
        nn.Identity: _same,
        nn.Linear: _linear,
        nn.ReLU: lambda graph, _: graph.apply("Relu"),
        nn.Sigmoid: lambda graph, _: graph.apply("Sigmoid"),
        nn.Softmax: _softmax,
        nn.Tanh: lambda graph, _: graph.apply("Tanh"),
        Rescale: _rescale,
        SeededDropout: _same,
        Standardise: _standardise,
    }
)


def _write_chain(layers: list[nn.Module], n_features: int) -> bytes:
    graph = _Graph()
    for layer in layers:
        graph.end = _WRITERS[type(layer)](graph, layer)
    name = _output_name(_is_classifier(layers))
    graph.nodes.append(helper.make_node("Identity", [graph.end], [name]))
    output = helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n_rows", "n_outputs"])
    rows = helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["n_rows", n_features])
    made = helper.make_graph(graph.nodes, "model", [rows], [output], graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _output_name(classifier: bool) -> str:
    return "probabilities" if classifier else "values"


def _by_torch(model: nn.Module, n_features: int, classifier: bool) -> bytes:
    """Returns what torch's exporter makes of a module of any kind; about 2 s the first time, 0.5 s later.

    Raises:
        BundleError: torch cannot export the module.
    """
    still = copy.deepcopy(model).cpu().eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of packages that are not needed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside of torch
            program = torch.onnx.export(
                still,
                (torch.zeros(2, n_features),),
                input_names=[INPUT_NAME],
                output_names=[_output_name(classifier)],
                dynamic_shapes=({0: torch.export.Dim("n_rows")},),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as failure:
        raise BundleError(f"torch cannot export {type(model).__name__} to ONNX: {failure}") from failure
    if program is None:
        raise BundleError(f"torch exported nothing for {type(model).__name__}; make its forward traceable")
    return bytes(program.model_proto.SerializeToString())

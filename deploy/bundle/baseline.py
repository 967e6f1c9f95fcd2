"""The trivial baseline as a model: it gives every row the same scores, and shows what is gained by training."""

from collections.abc import Sequence

import numpy as np


def constant_model(features: int, scores: Sequence[float]) -> bytes:
    """Returns an ONNX model from (n, features) to (n, len(scores)), each row `scores`."""
    from onnx import TensorProto, helper, numpy_helper  # loaded here: only who writes a model needs it

    weights = numpy_helper.from_array(np.zeros((features, len(scores)), dtype=np.float32), "weights")
    bias = numpy_helper.from_array(np.asarray(scores, dtype=np.float32), "bias")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["rows", "weights", "bias"], ["scores"])],
        "constant",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", len(scores)])],
        [weights, bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())

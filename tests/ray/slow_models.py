"""Models that take their time."""

import numpy as np


def slow_model() -> bytes:
    """Returns a model that says bee, after multiplying large matrices for some 100 ms."""
    from onnx import TensorProto, helper, numpy_helper

    width, turns = 1000, 200
    constants = {
        "wide": np.zeros((2, width), np.float32),
        "large": np.zeros((width, width), np.float32),
        "narrow": np.zeros((width, 4), np.float32),
        "scores": np.asarray([0.0, 1.0, 0.0, 0.0], np.float32),
    }
    nodes = [helper.make_node("MatMul", ["rows", "wide"], ["x0"])]
    nodes += [helper.make_node("MatMul", [f"x{turn}", "large"], [f"x{turn + 1}"]) for turn in range(turns)]
    nodes += [
        helper.make_node("MatMul", [f"x{turns}", "narrow"], ["y"]),
        helper.make_node("Add", ["y", "scores"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def turning_model(turns: int) -> bytes:
    """Returns a model that says bee: at once, or after so many turns of a loop where the first cell is below 0."""
    from onnx import TensorProto, helper, numpy_helper

    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["sum", "one"], ["more"])],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", TensorProto.FLOAT, []),
        ],
    )
    constants = {
        "table": np.asarray([[0.0, 1.0, 0.0, 0.0]], dtype=np.float32),
        "none": np.asarray(0.0, dtype=np.float32),
        "one": np.asarray(1.0, dtype=np.float32),
        "turns": np.asarray(turns, dtype=np.int64),
        "yes": np.asarray(True),
        "first": np.asarray(0, dtype=np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["rows", "first"], ["row"], axis=0),
        helper.make_node("Gather", ["row", "first"], ["cell"], axis=0),
        helper.make_node("Less", ["cell", "none"], ["is_slow"]),
        helper.make_node("Cast", ["is_slow"], ["slow"], to=TensorProto.INT64),
        helper.make_node("Mul", ["slow", "turns"], ["count"]),
        helper.make_node("Loop", ["count", "yes", "none"], ["sum"], body=body),
        helper.make_node("Mul", ["sum", "none"], ["nothing"]),
        helper.make_node("Shape", ["rows"], ["shape"], start=0, end=1),
        helper.make_node("ConstantOfShape", ["shape"], ["places"], value=helper.make_tensor("", 7, [1], [0])),
        helper.make_node("Gather", ["table", "places"], ["fixed"], axis=0),
        helper.make_node("Add", ["fixed", "nothing"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())

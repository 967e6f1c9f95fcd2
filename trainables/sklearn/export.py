"""A fitted scikit-learn estimator as an ONNX model, by skl2onnx, with two faults in boosted trees mended.

Faults (skl2onnx 1.20): thresholds are rounded to the nearest float32, which sends a row that lies on one the other way;
and node attributes come as numpy scalars, which onnx 1.23 refuses.
"""

import copy
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
from skl2onnx.operator_converters.random_forest import (
    convert_sklearn_random_forest_classifier,
    convert_sklearn_random_forest_regressor_converter,
)
from sklearn.base import is_classifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from orchestrator.domain.errors import BundleError

OPSETS = MappingProxyType({"": 17, "ai.onnx.ml": 3})
REASON_LENGTH = 300  # characters: a conversion that fails may print a whole forest

Converter = Callable[[Any, Any, Any], None]


def to_onnx(model: Any, n_features: int) -> bytes:
    """Returns the serialised model; it takes `rows` `(n_rows, n_features)`, any number of them.

    Raises:
        BundleError: the estimator does not convert.
    """
    boosted = isinstance(model, HistGradientBoostingClassifier | HistGradientBoostingRegressor)
    try:
        converted = convert_sklearn(
            _round_thresholds(model) if boosted else model,
            initial_types=[("rows", FloatTensorType([None, n_features]))],
            options={"zipmap": False} if is_classifier(model) else None,
            target_opset=dict(OPSETS),
            custom_conversion_functions=dict(_BOOSTED) if boosted else None,
        )
    except BundleError:
        raise
    except Exception as failure:  # skl2onnx raises whatever its converters meet
        raise BundleError(
            f"{type(model).__name__} does not convert to ONNX and so cannot be served: {str(failure)[:REASON_LENGTH]}; "
            "take another estimator or other parameters"
        ) from failure
    return bytes(_scores_alone(converted).SerializeToString())


def _scores_alone(model: ModelProto) -> ModelProto:
    """Returns the model with the last of its float outputs, which a bundle is asked for.

    A classifier has its label beside it, made in four steps that take a quarter of a small model's time.
    """
    floats = [value.name for value in model.graph.output if value.type.tensor_type.elem_type == TensorProto.FLOAT]
    return select_model_inputs_outputs(model, outputs=floats[-1:]) if floats else model


def _round_thresholds(model: Any) -> Any:
    """Returns a copy whose thresholds are float32 and answer every float32 row as the original does."""
    if getattr(model, "is_categorical_", None) is not None and any(model.is_categorical_):
        raise BundleError(
            f"{type(model).__name__} with categorical features does not convert to ONNX; "
            "fit it without `categorical_features`, on numbers"
        )
    rounded = copy.deepcopy(model)
    for iteration in rounded._predictors:
        for tree in iteration:
            tree.nodes["num_threshold"] = _round_down(tree.nodes["num_threshold"])
    return rounded


def _round_down(thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the largest float32 not above each: x <= t and x <= the result are then the same for a float32 x."""
    nearest = thresholds.astype(np.float32)
    below = np.nextafter(nearest, np.float32(-np.inf))
    return np.where(nearest.astype(np.float64) > thresholds, below, nearest).astype(np.float64)


class _PlainAttributes:
    """skl2onnx's container, with the scalars of a node's attributes made Python's own."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, operator: str, inputs: Any, outputs: Any, **attributes: Any) -> Any:
        """Adds a node."""
        plain = {name: _plain(value) for name, value in attributes.items()}
        return self._container.add_node(operator, inputs, outputs, **plain)


def _plain(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    scalars = [item.item() if isinstance(item, np.generic) else item for item in value]
    return [int(item) if isinstance(item, bool) else item for item in scalars]


def _mended(convert: Converter) -> Converter:
    return lambda scope, operator, container: convert(scope, operator, _PlainAttributes(container))


_BOOSTED: Mapping[type, Converter] = MappingProxyType(
    {
        HistGradientBoostingClassifier: _mended(convert_sklearn_random_forest_classifier),
        HistGradientBoostingRegressor: _mended(convert_sklearn_random_forest_regressor_converter),
    }
)

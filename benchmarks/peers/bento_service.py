"""The same model as a BentoML service; runs in BentoML's own venv, on onnxruntime, with its default settings."""

import os
from typing import Any

import bentoml
import numpy as np
import onnxruntime


@bentoml.service(workers=1, traffic={"timeout": 60})
class Digits:
    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["BENTO_MODEL"], options)
        self._input = self._session.get_inputs()[0].name
        self._output = self._session.get_outputs()[-1].name

    @bentoml.api
    def predict(self, rows: list[list[float]]) -> dict[str, Any]:
        (scores,) = self._session.run([self._output], {self._input: np.asarray(rows, dtype=np.float32)})
        return {"predictions": scores.argmax(axis=1).tolist(), "probabilities": scores.tolist()}

"""Ray Serve's default way: FastAPI as the ingress of a deployment, the scikit-learn model, Serve's own proxy.

python default_serve.py DIRECTORY PORT
"""

import os
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import ray
from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve
from ray.serve.config import HTTPOptions

app = FastAPI()


class Rows(BaseModel):
    rows: list[list[float]]


class Answer(BaseModel):
    predictions: list[int]
    probabilities: list[list[float]]


@serve.deployment
@serve.ingress(app)
class Digits:
    def __init__(self, directory: str) -> None:
        self._model = joblib.load(Path(directory) / "model.joblib")

    @app.post("/predict")
    async def predict(self, asked: Rows) -> Answer:
        scores = self._model.predict_proba(np.asarray(asked.rows))
        labels = self._model.classes_[scores.argmax(axis=1)]
        return Answer(predictions=labels.tolist(), probabilities=scores.tolist())


def main() -> None:
    directory, port = sys.argv[1:]
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - as for ours: see benchmarks/endpoint.py
    os.environ["RAY_SERVE_ENABLE_HA_PROXY"] = "0"  # the default, whatever ours is asked to have
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(port)))
    serve.run(Digits.bind(directory))
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()

"""The servers of `benchmarks/endpoint.py`: each answers the digits' rows from the same trained model on a port.

    python served.py KIND DIRECTORY PORT

KIND is `fastapi` (FastAPI, pydantic and the scikit-learn model; its handler in the event loop, which is fastest),
`fastapi_threads` (the same as `def`, which FastAPI runs in threads, as its documentation has it for such work), `bare`
(the limit: a bare ASGI function, orjson and onnxruntime, no checks, no token, no names), `replica` (the endpoint's
application by itself, in the server that Serve uses), or `alone` (the same, and no two requests share a call).
DIRECTORY has `model.joblib`, `model.onnx` and `bundle`.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import uvicorn

TOKEN = "benchmark"


def bare(directory: Path) -> Any:
    import numpy as np
    import onnxruntime
    import orjson

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(directory / "model.onnx"), options)
    name, output = session.get_inputs()[0].name, session.get_outputs()[-1].name
    head = [(b"content-type", b"application/json")]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        rows = np.array(orjson.loads(body)["rows"], dtype=np.float32)
        (scores,) = session.run([output], {name: rows})
        said = {"predictions": scores.argmax(axis=1), "probabilities": scores}
        answer = orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY)
        headers = [*head, (b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def fastapi_app(directory: Path, *, threads: bool) -> Any:
    import joblib
    import numpy as np
    from fastapi import FastAPI
    from pydantic import BaseModel

    model = joblib.load(directory / "model.joblib")
    app = FastAPI()

    class Rows(BaseModel):
        rows: list[list[float]]

    class Answer(BaseModel):
        predictions: list[int]
        probabilities: list[list[float]]

    def predict(asked: Rows) -> Answer:
        scores = model.predict_proba(np.asarray(asked.rows))
        labels = model.classes_[scores.argmax(axis=1)]
        return Answer(predictions=labels.tolist(), probabilities=scores.tolist())

    async def predict_here(asked: Rows) -> Answer:
        return predict(asked)

    app.post("/predict", response_model=Answer)(predict if threads else predict_here)
    return app


def replica(directory: Path, *, shares: bool) -> Any:
    from deploy.answering.app import AppSettings, EndpointApp
    from deploy.answering.call_cost import measure_cost
    from deploy.answering.served import ModelSlot, Served
    from deploy.bundle import Bundle
    from deploy.ingress.direct import install

    install()  # the protocol that a replica's server has
    bundle = Bundle.open(directory / "bundle")
    bundle.warm_up()
    served, slot = Served(bundle, 1, 1), ModelSlot()
    slot.put(replace(served, cost=measure_cost(bundle)) if shares else served)
    return EndpointApp(AppSettings("digits", TOKEN), slot)


def main() -> None:
    kind, directory, port = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    apps = {
        "bare": bare,
        "fastapi": lambda given: fastapi_app(given, threads=False),
        "fastapi_threads": lambda given: fastapi_app(given, threads=True),
        "replica": lambda given: replica(given, shares=True),
        "alone": lambda given: replica(given, shares=False),
    }
    uvicorn.run(apps[kind](directory), host="127.0.0.1", port=port, log_level="error", access_log=False, lifespan="off")


if __name__ == "__main__":
    main()

"""Asks an endpoint with NVIDIA's client, each call in each way, and prints what came as JSON.

Run by the Python that has `tritonclient`, which does not go together with the program's own protobuf.
"""

import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

DTYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}
OTHER = "999"  # a version that no endpoint has


class Asked:
    """One endpoint over one transport."""

    def __init__(self, transport: Any, given: dict[str, Any]) -> None:
        self.transport = transport
        self.is_http = transport is over_http
        self.model, self.version = given["model"], given["version"]
        self.tensors = given["tensors"]
        self.whole = given["whole"]  # rows with nothing missing: in JSON this client writes NaN, which is no JSON
        self.client = transport.InferenceServerClient(given["http" if self.is_http else "grpc"])
        application = {} if self.is_http else given["metadata"]
        self.right = {"authorization": f"Bearer {given['token']}", **application}
        self.wrong = {"authorization": "Bearer wrong", **application}

    @property
    def headers(self) -> dict[str, str]:
        """New ones for each call: the client writes the length of a request's JSON into what it is given."""
        return dict(self.right)

    def inputs(self, binary: bool = True, **changed: Any) -> list[Any]:
        made = []
        for name, tensor in self.tensors.items():
            tensor = {**tensor, **changed}
            cells = np.array(tensor["data"], dtype=DTYPES[tensor["datatype"]])
            cells = cells if binary else cells[self.whole]
            one = self.transport.InferInput(name, list(cells.shape), tensor["datatype"])
            one.set_data_from_numpy(cells, **({"binary_data": binary} if self.is_http else {}))
            made.append(one)
        return made

    def outputs(self, names: list[str], binary: bool) -> list[Any]:
        if self.is_http:
            return [over_http.InferRequestedOutput(name, binary_data=binary) for name in names]
        return [over_grpc.InferRequestedOutput(name) for name in names]

    def infer(self, **given: Any) -> Any:
        given = {"inputs": self.inputs(), "headers": self.headers, **given}
        return self.client.infer(self.model, **given)

    def said(self, answer: Any) -> dict[str, Any]:
        response = answer.get_response()
        if self.is_http:
            names, who = [output["name"] for output in response["outputs"]], response["model_version"]
            identity = response.get("id", "")
        else:
            names, who = [output.name for output in response.outputs], response.model_version
            identity = response.id
        return {"version": who, "id": identity, "outputs": {name: plain(answer.as_numpy(name)) for name in names}}

    def metadata(self) -> dict[str, Any]:
        told = self.client.get_model_metadata(self.model, self.version, headers=self.headers)
        if self.is_http:
            return {**told, "inputs": [{k: one[k] for k in ("name", "datatype", "shape")} for one in told["inputs"]]}
        return {
            "name": told.name,
            "versions": list(told.versions),
            "platform": told.platform,
            "inputs": [{"name": o.name, "datatype": o.datatype, "shape": list(o.shape)} for o in told.inputs],
            "outputs": [{"name": o.name, "datatype": o.datatype, "shape": list(o.shape)} for o in told.outputs],
        }

    def everything(self) -> dict[str, Any]:
        server = self.client.get_server_metadata(headers=self.headers)
        first = next(iter(self.tensors.values()))
        long = {"data": (np.array(first["data"], dtype=DTYPES[first["datatype"]]).repeat(5000, axis=0)).tolist()}
        return {
            "live": self.client.is_server_live(headers=self.headers if not self.is_http else None),
            "ready": self.client.is_server_ready(headers=self.headers),
            "model_ready": self.client.is_model_ready(self.model, headers=self.headers),
            "version_ready": self.client.is_model_ready(self.model, self.version, headers=self.headers),
            "other_ready": attempt(lambda: self.client.is_model_ready(self.model, OTHER, headers=self.headers)),
            "server": server["name"] if self.is_http else server.name,
            "extensions": list(server["extensions"] if self.is_http else server.extensions),
            "metadata": {k: v for k, v in self.metadata().items() if k != "parameters"},
            "infer": self.said(self.infer(request_id="a request")),
            "infer_of_version": self.said(self.infer(model_version=self.version)),
            "infer_one": self.said(self.infer(outputs=self.outputs(["predictions"], binary=True))),
            "infer_json": self.said(
                self.infer(inputs=self.inputs(binary=False), outputs=self.outputs(["predictions"], binary=False))
            ),
            "infer_async": self.said(self.later()),
            "refused": {
                "token": attempt(lambda: self.infer(headers=self.wrong)),
                "model": attempt(lambda: self.client.infer("nobody", self.inputs(), headers=self.headers)),
                "version": attempt(lambda: self.infer(model_version=OTHER)),
                "output": attempt(lambda: self.infer(outputs=self.outputs(["nothing"], binary=True))),
                "tensors": attempt(lambda: self.infer(inputs=self.inputs()[:0])),
                "rows": attempt(lambda: self.infer(inputs=self.inputs(**long)[:1])) if len(self.tensors) == 1 else "",
                "sequence": attempt(lambda: self.infer(sequence_id=7, sequence_start=True)),
            },
        }

    def later(self) -> Any:
        if self.is_http:
            return self.client.async_infer(self.model, self.inputs(), headers=self.headers).get_result()
        heard: queue.Queue[Any] = queue.Queue()
        self.client.async_infer(
            self.model, self.inputs(), lambda result, error: heard.put(error or result), headers=self.headers
        )
        return heard.get(timeout=60)


def attempt(call: Any) -> Any:
    try:
        return call()
    except InferenceServerException as error:
        return f"{error.status()}: {error.message()}"


def plain(cells: Any) -> Any:
    return [cell.decode() if isinstance(cell, bytes) else cell for cell in cells.tolist()]


def main() -> None:
    given = json.load(sys.stdin)
    found = {
        name: Asked(transport, given).everything() for name, transport in (("http", over_http), ("grpc", over_grpc))
    }
    http = Asked(over_http, given)
    found["compressed"] = attempt(lambda: http.infer(request_compression_algorithm="gzip"))
    json.dump(found, sys.stdout)


main()

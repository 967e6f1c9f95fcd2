"""The endpoint's interface as an OpenAPI 3.1 document, made from what the model that answers takes and gives.

Its examples are rows of the bundle's own sample, and so are answered as they stand.
"""

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from deploy.answering.protocol import PREDICTIONS, PROBABILITIES, output_shapes
from deploy.answering.served import Served
from deploy.bundle import Bundle, Column, ColumnKind, Kind, Schema, Table
from deploy.bundle.table import Cell
from deploy.formats.tensor_rows import input_tensors
from deploy.formats.tensors import DATATYPES
from deploy.http.media import ARROW, CSV, JSON

OPENAPI = "3.1.0"
EXAMPLE_ROWS = 2
Json = dict[str, Any]

_TYPES: Mapping[ColumnKind, Json] = {
    ColumnKind.NUMBER: {"type": "number"},
    ColumnKind.CATEGORY: {"type": "string"},
    ColumnKind.BOOL: {"type": "boolean"},
    ColumnKind.DATE: {"type": "string", "format": "date"},
}
REFUSALS = {
    "400": "The body cannot be read.",
    "401": "No token, a wrong one, or one that expired.",
    "403": "The token has not the scope that this needs.",
    "404": "No such model or version.",
    "406": "No kind of answer that Accept takes.",
    "408": "The body did not come in time.",
    "413": "More bytes or rows than a request may have.",
    "415": "A kind of body that is not read.",
    "422": "Rows or tensors that do not fit the model; the reason names them.",
    "503": "No model has been promoted yet, or too many requests wait.",
}


def openapi_document(model: str, served: Served, *, server: str, max_rows: int, max_bytes: int) -> Json:
    """Returns the document.

    Args:
        model: the endpoint's name.
        served: the model that answers.
        server: the path that all paths are below, "/" at least.
        max_rows: the most rows that a request may have.
        max_bytes: and the most bytes.
    """
    bundle, lineage = served.bundle, served.bundle.lineage
    schema = bundle.schema
    made = f"Version {served.version}: study {lineage.study}, trial {lineage.trial}, step {lineage.step}."
    limits = f"A request has at most {max_rows} rows and {max_bytes} bytes, and is not compressed."
    return {
        "openapi": OPENAPI,
        "info": {
            "title": model,
            "version": str(served.version),
            "description": f"{schema.kind.value.capitalize()} from {schema.features} columns. {made} {limits}",
        },
        "servers": [{"url": server}],
        "security": [{"token": []}],
        "paths": _paths(model, bundle, max_rows),
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Record": _record(schema, example_records(bundle)[0]),
                "Cells": _cells(schema),
                "Columns": _columns(schema, max_rows),
                "Rows": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": max_rows,
                    "items": {"oneOf": [_reference("Record"), _reference("Cells")]},
                },
                "Predictions": _predictions(schema),
                "Input": _tensor([told["name"] for told in input_tensors(schema)]),
                "Output": _tensor([told["name"] for told in output_shapes(schema)]),
                "Error": _object({"error": {"type": "string"}}),
            },
        },
        "x-model": {
            "name": model,
            "version": str(served.version),
            "study": lineage.study,
            "trial": lineage.trial,
            "kind": schema.kind.value,
            "labels": list(schema.labels),
            "columns": [column.to_dict() for column in _columns_of(schema)],
        },
    }


def example_records(bundle: Bundle) -> list[dict[str, Cell]]:
    """Returns a few rows of the bundle's sample, as somebody would type them."""
    sample = bundle.sample[:EXAMPLE_ROWS]
    if isinstance(sample, Table):
        return sample.records()
    columns = bundle.schema.columns
    return [dict(zip(columns, (float(str(cell)) for cell in row), strict=True)) for row in np.asarray(sample)]


def _paths(model: str, bundle: Bundle, max_rows: int) -> Json:
    path, schema = f"/v2/models/{model}", bundle.schema
    return {
        "/predict": {
            "post": _operation(
                "predict",
                "Answers rows",
                {"200": _predict_answer(schema)},
                parameters=[_KEY],
                requestBody={"required": True, "content": _predict_bodies(bundle, max_rows)},
            )
        },
        "/feedback": {"post": _feedback()},
        "/v2/health/live": {"get": {**_told("live", "Whether the process answers", {"live": _TRUTH}), "security": []}},
        "/v2/health/ready": {"get": _told("ready", "Whether a model answers", {"ready": _TRUTH})},
        "/v2": {"get": _told("server", "The server and its extensions", {"name": _TEXT, "version": _TEXT})},
        path: {
            "get": _told("metadata", "What the model takes and gives", {"name": _TEXT, "inputs": {"type": "array"}})
        },
        f"{path}/ready": {"get": _told("modelReady", "Whether the model answers", {"name": _TEXT, "ready": _TRUTH})},
        f"{path}/infer": {
            "post": _operation(
                "infer",
                "Answers tensors (Open Inference Protocol)",
                {"200": _answer("The outputs", _object({"outputs": _list(_reference("Output"))}, open_=True))},
                requestBody={
                    "required": True,
                    "content": {
                        JSON: {
                            "schema": _object({"inputs": {**_list(_reference("Input")), "minItems": 1}}, open_=True),
                            "example": {"inputs": example_tensors(bundle)},
                        }
                    },
                },
            )
        },
    }


def example_tensors(bundle: Bundle) -> list[Json]:
    """Returns the sample's rows as the input tensors of the Open Inference Protocol."""
    records = example_records(bundle)
    if not bundle.schema.raw:
        (told,) = input_tensors(bundle.schema)
        data = [list(record.values()) for record in records]
        return [{"name": told["name"], "datatype": told["datatype"], "shape": [len(data), len(data[0])], "data": data}]
    return [
        {
            "name": told["name"],
            "datatype": told["datatype"],
            "shape": [len(records)],
            "data": [record[told["name"]] for record in records],
        }
        for told in input_tensors(bundle.schema)
    ]


def _feedback() -> Json:
    entry = _object(
        {
            "id": {"type": "string", "minLength": 1},
            "label": {"description": "The true label; of an answer of several rows, a list."},
        }
    )
    body = {"schema": {"oneOf": [entry, {**_list(entry), "minItems": 1}]}}
    taken = _answer("How many were taken", _object({"accepted": {"type": "integer"}}))
    content = {"required": True, "content": {JSON: body}}
    return _operation("feedback", "Takes the true labels of answers, by their ids", {"202": taken}, requestBody=content)


def _predict_bodies(bundle: Bundle, max_rows: int) -> Json:
    records = example_records(bundle)
    key = {
        "key": {"type": ["string", "integer"], "description": "Whatever the same client sends each time (optional)."}
    }
    rows = _object({"rows": _reference("Rows"), **key}, needed=("rows",))
    columns = _object({"columns": _reference("Columns"), **key}, needed=("columns",))
    return {
        JSON: {
            "schema": {"oneOf": [rows, columns, _reference("Rows")]},
            "examples": {
                "records": {"summary": "Records of columns", "value": {"rows": records}},
                "cells": {"summary": "Lists of cells", "value": {"rows": [list(row.values()) for row in records]}},
                "columns": {"summary": "Columns", "value": {"columns": _turned(records)}},
            },
        },
        CSV: {
            "schema": {
                "type": "string",
                "minLength": 1,
                "description": f"A line of column names, then up to {max_rows} rows.",
            },
            "example": _csv(records),
        },
        ARROW: {"schema": {"type": "string", "contentMediaType": ARROW, "description": "An Arrow IPC stream."}},
    }


def _predict_answer(schema: Schema) -> Json:
    table = {"type": "string", "description": "A column 'prediction', and one 'probability_LABEL' of each label."}
    return {
        "description": "An answer a row",
        "content": {JSON: {"schema": _reference("Predictions")}, CSV: {"schema": table}, ARROW: {"schema": table}},
    }


def _predictions(schema: Schema) -> Json:
    said = {"version": _TEXT, "study": _TEXT, "trial": {"type": "integer"}, "id": _TEXT}
    number = {"type": ["number", "null"]}
    if schema.kind is Kind.REGRESSION:
        value = {"anyOf": [number, _list(number)]}
        return _object({PREDICTIONS: _list(value), **said}, needed=(PREDICTIONS, "version", "study", "trial"))
    shares = {**_list(number), "minItems": len(schema.labels), "maxItems": len(schema.labels)}
    shares["description"] = f"Of the labels {', '.join(map(str, schema.labels))}, in this order."
    found = {PREDICTIONS: _list({"enum": list(schema.labels)}), PROBABILITIES: _list(shares), **said}
    return _object(found, needed=(PREDICTIONS, PROBABILITIES, "version", "study", "trial"))


def _record(schema: Schema, example: Mapping[str, Cell]) -> Json:
    cells = {column.name: _cell(column) for column in _columns_of(schema)}
    return {**_object(cells), "examples": [dict(example)]}


def _cells(schema: Schema) -> Json:
    return {
        "type": "array",
        "description": "The cells of a row, in the order of the columns.",
        "prefixItems": [_cell(column) for column in _columns_of(schema)],
        "items": False,
        "minItems": schema.features,
    }


def _columns(schema: Schema, max_rows: int) -> Json:
    sizes = {"minItems": 1, "maxItems": max_rows}
    return _object({column.name: {**_list(_cell(column)), **sizes} for column in _columns_of(schema)})


def _cell(column: Column) -> Json:
    kind = dict(_TYPES[column.kind])
    if column.nullable:
        kind["type"] = [kind["type"], "null"]
    missing = "May be missing (null)." if column.nullable else "Never missing in training, and may not be here."
    if column.kind is not ColumnKind.CATEGORY:
        return {**kind, "description": missing}
    seen = f"Seen in training: {', '.join(column.levels)}. Another text is answered as a rare one."
    return {**kind, "description": f"{missing} {seen}", "examples": list(column.levels)}


def _columns_of(schema: Schema) -> tuple[Column, ...]:
    return schema.raw or tuple(Column(name) for name in schema.columns)


def _tensor(names: list[str]) -> Json:
    cells = {
        "name": {"enum": names},
        "datatype": {"enum": list(DATATYPES)},
        "shape": _list({"type": "integer", "minimum": 0}),
    }
    needed = tuple(cells)
    return _object({**cells, "data": {"type": "array"}, "parameters": {"type": "object"}}, needed=needed, open_=True)


def _operation(name: str, summary: str, answers: Json, **more: Any) -> Json:
    refused = {status: _answer(why, _reference("Error")) for status, why in REFUSALS.items()}
    return {"operationId": name, "summary": summary, **more, "responses": {**answers, **refused}}


def _told(name: str, summary: str, properties: Json) -> Json:
    return _operation(name, summary, {"200": _answer(summary, _object(properties, open_=True))})


def _answer(description: str, schema: Json) -> Json:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _object(properties: Json, *, needed: tuple[str, ...] | None = None, open_: bool = False) -> Json:
    closed = {} if open_ else {"additionalProperties": False}
    return {"type": "object", "properties": properties, "required": list(needed or properties), **closed}


def _list(items: Json) -> Json:
    return {"type": "array", "items": items}


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _turned(records: list[dict[str, Cell]]) -> dict[str, list[Cell]]:
    return {name: [record[name] for record in records] for name in records[0]}


def _csv(records: list[dict[str, Cell]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(records[0])
    words = {None: "", True: "true", False: "false"}
    for record in records:
        writer.writerow([words[cell] if cell is None or isinstance(cell, bool) else cell for cell in record.values()])
    return text.getvalue()


_TEXT: Json = {"type": "string"}
_KEY: Json = {
    "name": "X-Routing-Key",
    "in": "header",
    "description": "Whatever the same client sends each time, so that one model answers it while another is tried.",
    "schema": {"type": "string", "maxLength": 1024},
}
_TRUTH: Json = {"type": "boolean"}

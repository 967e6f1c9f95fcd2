"""What is counted of requests, and how Prometheus's own parser reads it."""

import asyncio
import json

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from deploy.answering.app import AppSettings, EndpointApp
from deploy.answering.served import ModelSlot, Served
from deploy.monitoring.exposition import exposition
from deploy.monitoring.metrics import Meter, Reading, Standing


def samples(text: bytes) -> dict[tuple, float]:
    """Returns values by name and labels, as Prometheus understands the text."""
    return {
        (sample.name.removeprefix("orchestrator_endpoint_"), *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def of(found: dict[tuple, float], name: str, **labels: str) -> float:
    """Returns the one value with these labels, whatever others it has."""
    (value,) = [
        value for (given, *pairs), value in found.items() if given == name and labels.items() <= dict(pairs).items()
    ]
    return value


def reading(replica: str, meter: Meter, **standing) -> Reading:
    return Reading(Standing(replica, 17, 100.0, **standing), meter.reading())


def test_each_replica_has_its_samples():
    one, two = Meter(), Meter()
    for status in (200, 200, 422, 503):
        one.end("http", "predict", status, 0.002)
    two.end("grpc", "infer", 200, 20.0)
    for size in (1, 3, 5000):
        one.batch(size)
    one.queued = 4
    found = samples(
        exposition(
            "digits",
            [
                reading("a", one, version=3, study='s"\\', trial=12, generation=7),
                reading("b", two, contender=4, weight=0.25),
            ],
            is_whole=True,
        )
    )
    assert of(found, "requests_total", replica="a", status="2xx", route="predict", protocol="http") == 2
    assert of(found, "requests_total", replica="a", status="4xx") == 1
    assert of(found, "errors_total", replica="a", kind="unfitting") == 1
    assert of(found, "errors_total", replica="a", kind="unavailable") == 1
    assert of(found, "request_seconds_bucket", replica="a", le="0.001") == 0
    assert of(found, "request_seconds_bucket", replica="a", le="0.0025") == 4
    assert of(found, "request_seconds_sum", replica="a") == pytest.approx(0.008)
    assert of(found, "request_seconds_bucket", replica="b", le="10.0") == 0
    assert of(found, "request_seconds_count", replica="b") == 1
    assert [of(found, "batch_requests_bucket", replica="a", le=le) for le in ("1.0", "4.0", "4096.0", "+Inf")] == [
        1,
        2,
        2,
        3,
    ]
    assert of(found, "model_info", replica="a", version="3", study='s"\\', trial="12", endpoint="digits") == 1
    assert of(found, "challenger_weight", replica="b", version="4") == 0.25
    assert (of(found, "generation", replica="a"), of(found, "queued_requests", replica="a")) == (7, 4)
    assert of(found, "actor_up") == 1


def test_a_reading_travels_as_plain_data():
    meter = Meter()
    meter.end("http", "predict", 200, 0.1)
    there = reading("a", meter, version=1)
    assert Reading.from_dict(json.loads(json.dumps(there.to_dict()))).to_dict() == there.to_dict()


def test_the_application_counts_what_it_answers(bundle):
    slot = ModelSlot()
    slot.put(Served(bundle, version=3, generation=3))
    app = EndpointApp(AppSettings("digits", "secret"), slot)

    async def ask() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://endpoint") as client:
            right = {"authorization": "Bearer secret"}
            for _ in range(3):
                await client.post("/predict", headers=right, json=[[1, 2, 3]])
            await client.post("/predict", headers=right, json=[[1, 2]])
            await client.post("/predict", json=[[1, 2, 3]])
            await client.get("/nothing", headers=right)
            await client.post("/admin/freeze", headers=right)

    asyncio.run(ask())
    found = {(route, status): count for _, route, status, count in app.meter.reading()["requests"]}
    assert found == {
        ("predict", 200): 3,
        ("predict", 422): 1,
        ("unknown", 401): 1,
        ("unknown", 404): 1,
        ("freeze", 503): 1,
    }
    assert app.meter.in_flight == 0

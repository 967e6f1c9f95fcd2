"""A replica's sums through Ray, which exports them to the metrics port of the replica's host.

So a cluster whose Prometheus finds Ray's ports (`prom_metrics_service_discovery.json`) has each replica's numbers
without a token and without the ingress. Runs in a thread of the replica; a request never touches it.
"""

import logging
import threading
from collections.abc import Callable

from ray.util.metrics import Counter, Gauge

from deploy.monitoring.metrics import Reading

logger = logging.getLogger(__name__)

EXPORT_SECONDS = 5.0  # Ray's own processes report as often
PREFIX = "orchestrator_endpoint"
TAGS = ("endpoint", "replica")


class RayMetrics:
    """Tells Ray what came to a replica's numbers since the last time. Used by one thread."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._requests = Counter(f"{PREFIX}_requests", "Answered requests.", (*TAGS, "protocol", "route", "status"))
        self._seconds = Counter(f"{PREFIX}_request_seconds", "Seconds that they took.", (*TAGS, "route"))
        self._gauges = {
            name: Gauge(f"{PREFIX}_{name}", what, TAGS)
            for name, what in (
                ("in_flight_requests", "Requests that are being answered."),
                ("queued_requests", "Requests that wait for a batch."),
                ("version", "The version that answers; 0 for none."),
                ("generation", "How many decisions the replica has followed."),
                ("challenger_weight", "The share of requests that a challenger answers."),
            )
        }
        self._told: dict[tuple[str, ...], float] = {}

    def export(self, reading: Reading) -> None:
        """Brings a replica's numbers to Ray."""
        counted, now = reading.counted, reading.standing
        tags = {"endpoint": self._endpoint, "replica": now.replica}
        for protocol, route, status, count in counted["requests"]:
            more = {"protocol": protocol, "route": route, "status": str(status)}
            self._add(self._requests, count, {**tags, **more})
        for route, (_, seconds) in counted["seconds"].items():
            self._add(self._seconds, seconds, {**tags, "route": route})
        values = {
            "in_flight_requests": counted["in_flight"],
            "queued_requests": counted["queued"],
            "version": now.version or 0,
            "generation": now.generation,
            "challenger_weight": now.weight or 0.0,
        }
        for name, value in values.items():
            self._gauges[name].set(value, tags)

    def _add(self, counter: Counter, total: float, tags: dict[str, str]) -> None:
        """Adds what is new to a counter."""
        key = (counter.info["name"], *tags.values())
        new = total - self._told.get(key, 0.0)
        if new > 0:
            counter.inc(new, tags)
            self._told[key] = total


def export_until(ended: threading.Event, endpoint: str, read: Callable[[], Reading]) -> None:
    """Exports until `ended` is set; what goes wrong is said once."""
    metrics, has_failed = RayMetrics(endpoint), False
    while not ended.wait(EXPORT_SECONDS):
        try:
            metrics.export(read())
        except Exception as error:  # noqa: BLE001 - a thread's edge: numbers are not worth a replica
            if not has_failed:
                logger.warning("This replica's numbers do not reach Ray: %s", error)
            has_failed = True

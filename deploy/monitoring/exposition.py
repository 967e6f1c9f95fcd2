"""The numbers of an endpoint's replicas as Prometheus reads them: text format 0.0.4, every sample with its replica."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from deploy.monitoring.metrics import KINDS, SECONDS, SIZES, Reading

MEDIA = CONTENT_TYPE_LATEST
PREFIX = "orchestrator_endpoint"
LABELS = ("endpoint", "replica")


def exposition(endpoint: str, readings: Sequence[Reading], *, is_whole: bool) -> bytes:
    """Returns the text.

    Args:
        endpoint: its name.
        readings: of its replicas.
        is_whole: whether they are of all replicas; False where the endpoint actor is away and one speaks for itself.
    """
    return generate_latest(_Readings(endpoint, readings, is_whole))


class _Readings(Collector):
    """Makes families of metrics from readings; asked once."""

    def __init__(self, endpoint: str, readings: Sequence[Reading], is_whole: bool) -> None:
        self._endpoint = endpoint
        self._readings = readings
        self._is_whole = is_whole

    def collect(self) -> Iterator[Metric]:
        whole = GaugeMetricFamily(f"{PREFIX}_actor_up", "Whether the endpoint actor answers.", labels=("endpoint",))
        whole.add_metric([self._endpoint], float(self._is_whole))
        yield whole
        yield from self._standing()
        yield from self._requests()
        yield from self._times()

    def _standing(self) -> Iterator[Metric]:
        model = _gauge("model_info", "The version that answers, and where it came from.", "version", "study", "trial")
        challenger = _gauge("challenger_weight", "The share of requests that the challenger answers.", "version")
        generation = _gauge("generation", "How many decisions the replica has followed.")
        started = _gauge("start_time_seconds", "When the replica started, in seconds since 1970.")
        in_flight = _gauge("in_flight_requests", "Requests that are being answered.")
        queued = _gauge("queued_requests", "Requests that wait for a batch.")
        for reading in self._readings:
            labels, now, counted = self._labels(reading), reading.standing, reading.counted
            if now.version is not None:
                model.add_metric([*labels, str(now.version), now.study, str(now.trial)], 1)
            if now.contender is not None:
                challenger.add_metric([*labels, str(now.contender)], now.weight or 0.0)
            generation.add_metric(labels, now.generation)
            started.add_metric(labels, now.started)
            in_flight.add_metric(labels, counted["in_flight"])
            queued.add_metric(labels, counted["queued"])
        yield from (model, challenger, generation, started, in_flight, queued)

    def _requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            f"{PREFIX}_requests", "Requests that were answered.", labels=(*LABELS, "protocol", "route", "status")
        )
        errors = CounterMetricFamily(f"{PREFIX}_errors", "Requests that were not done.", labels=(*LABELS, "kind"))
        for reading in self._readings:
            labels, kinds = self._labels(reading), dict[str, int]()
            for protocol, route, status, count in _by_class(reading):
                requests.add_metric([*labels, protocol, route, status], count)
            for _, _, status, count in reading.counted["requests"]:
                if status >= 400:
                    kind = KINDS.get(status, str(status))
                    kinds[kind] = kinds.get(kind, 0) + count
            for kind, count in sorted(kinds.items()):
                errors.add_metric([*labels, kind], count)
        yield from (requests, errors)

    def _times(self) -> Iterator[Metric]:
        seconds = HistogramMetricFamily(
            f"{PREFIX}_request_seconds", "How long a replica took to answer.", labels=(*LABELS, "route")
        )
        batches = HistogramMetricFamily(
            f"{PREFIX}_batch_requests", "How many requests a model answered at once.", labels=LABELS
        )
        for reading in self._readings:
            labels = self._labels(reading)
            for route, (counts, total) in reading.counted["seconds"].items():
                seconds.add_metric([*labels, route], _buckets(SECONDS, counts), total)
            counts, total = reading.counted["batches"]
            batches.add_metric(labels, _buckets(SIZES, counts), total)
        yield from (seconds, batches)

    def _labels(self, reading: Reading) -> list[str]:
        return [self._endpoint, reading.standing.replica]


def _by_class(reading: Reading) -> list[tuple[str, str, str, int]]:
    """Returns requests by protocol, route and class of status, such as `2xx`."""
    found: dict[tuple[str, str, str], int] = {}
    for protocol, route, status, count in reading.counted["requests"]:
        key = (protocol, route, f"{status // 100}xx")
        found[key] = found.get(key, 0) + count
    return [(*key, count) for key, count in sorted(found.items())]


def _buckets(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    """Returns the cumulated buckets by their upper bounds, the last without one."""
    return list(zip([*map(floatToGoString, bounds), "+Inf"], accumulate(counts), strict=True))


def _gauge(name: str, what: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", what, labels=(*LABELS, *labels))

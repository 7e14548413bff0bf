"""Every metric, defined once, with two back ends: prometheus_client in one process, Ray's own inside replicas.

Ray exports only what is made through its API, so a replica calls `use_ray()` at start. Names and labels:
docs/operations.md. In replicas Ray adds `application`, `deployment` and `replica` by itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal, Protocol

Kind = Literal["counter", "gauge", "histogram"]

# Ray exports a histogram's sum as bucket midpoints: 1-2-5 steps keep a mean within a third, and half integers make a
# batch size exact up to 16.
_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
_MEGAPIXELS = (0.1, 0.3, 1.0, 2.0, 4.0, 8.0, 12.0, 24.0, 50.0)  # 50 is the default limit
_SCORES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
_BATCHES = (*(size + 0.5 for size in range(17)), 24.5, 32.5, 64.5)


@dataclass(frozen=True)
class Metric:
    """A family: `name` without the back end's prefix, closed label names, buckets for a histogram."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


REQUESTS = Metric("mattehorn_requests_total", "counter", "HTTP requests by route and status code.", ("route", "code"))
ERRORS = Metric("mattehorn_errors_total", "counter", "Answers that were errors, by the contract's code.", ("code",))
STAGE_SECONDS = Metric(
    "mattehorn_stage_seconds",
    "histogram",
    "Time of one stage of one picture, in seconds.",
    ("stage",),
    _SECONDS,
)
BATCH_SIZE = Metric("mattehorn_batch_size", "histogram", "Pictures in one forward pass of the network.", (), _BATCHES)
QUEUE_IMAGES = Metric("mattehorn_queue_images", "gauge", "Pictures waiting or in work in one replica.")
IMAGE_MEGAPIXELS = Metric(
    "mattehorn_image_megapixels", "histogram", "Size of the photos that came, in megapixels.", (), _MEGAPIXELS
)
BYTES = Metric("mattehorn_bytes_total", "counter", "Bytes of photos in and results out.", ("direction",))
IGNORED_FIELDS = Metric(
    "mattehorn_ignored_fields_total",
    "counter",
    "Unknown form fields that a compatible endpoint left aside.",
    ("route",),
)
RETRIES = Metric("mattehorn_retries_total", "counter", "Calls repeated because a replica died.", ("callee",))
KEYS_REFUSED = Metric(
    "mattehorn_refused_keys_total",
    "counter",
    "Requests that the front door turned away: no key, one that is not known, one without the scope.",
    ("reason",),
)
QUALITY_SCORE = Metric("mattehorn_quality_score", "histogram", "Quality scores of results, 0 to 1.", (), _SCORES)
QUALITY_ROUTES = Metric(
    "mattehorn_quality_routes_total",
    "counter",
    "What a recipe's gate or the tier made of scores: accept, review, reject; retry by the stronger model.",
    ("route",),
)
BULK_ITEMS = Metric(
    "mattehorn_bulk_items_total", "counter", "Photos of bulk work by what became of them.", ("outcome",)
)
BULK_IN_FLIGHT = Metric("mattehorn_bulk_in_flight", "gauge", "Photos of bulk work in work in one process.")
CACHE_REQUESTS = Metric(
    "mattehorn_cache_requests_total",
    "counter",
    "Pictures by what the cache had of them: hit, joined, miss.",
    ("outcome",),
)
CACHE_BYTES = Metric(
    "mattehorn_cache_bytes_total", "counter", "Bytes that the cache has kept, answered with and removed.", ("event",)
)
CACHE_SIZE = Metric("mattehorn_cache_size_bytes", "gauge", "Bytes in the cache, as one replica's last sweep left it.")

METRICS = (
    REQUESTS,
    ERRORS,
    STAGE_SECONDS,
    BATCH_SIZE,
    QUEUE_IMAGES,
    IMAGE_MEGAPIXELS,
    BYTES,
    IGNORED_FIELDS,
    RETRIES,
    KEYS_REFUSED,
    QUALITY_SCORE,
    QUALITY_ROUTES,
    BULK_ITEMS,
    BULK_IN_FLIGHT,
    CACHE_REQUESTS,
    CACHE_BYTES,
    CACHE_SIZE,
)


class Backend(Protocol):
    def add(self, metric: Metric, amount: float, labels: Mapping[str, str]) -> None: ...
    def set(self, metric: Metric, value: float) -> None: ...
    def observe(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None: ...


class PrometheusBackend:
    """In-process: prometheus_client objects in a registry of their own, made at first use."""

    def __init__(self) -> None:
        import prometheus_client as client

        self.registry = client.CollectorRegistry()
        self._made: dict[str, Any] = {}
        self._classes = {"counter": client.Counter, "gauge": client.Gauge, "histogram": client.Histogram}

    def _get(self, metric: Metric) -> Any:
        if metric.name not in self._made:
            extra = {"buckets": metric.buckets} if metric.kind == "histogram" else {}
            made = self._classes[metric.kind](metric.name, metric.help, metric.labels, registry=self.registry, **extra)
            self._made[metric.name] = made
        return self._made[metric.name]

    def add(self, metric: Metric, amount: float, labels: Mapping[str, str]) -> None:
        made = self._get(metric)
        (made.labels(**labels) if labels else made).inc(amount)

    def set(self, metric: Metric, value: float) -> None:
        self._get(metric).set(value)

    def observe(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        made = self._get(metric)
        (made.labels(**labels) if labels else made).observe(value)


class RayBackend:
    """Inside a Serve replica: every family is made at once, so that it is exported before its first event."""

    def __init__(self) -> None:
        from ray.serve import metrics as serve_metrics

        self._made: dict[str, Any] = {}
        for metric in METRICS:
            common: dict[str, Any] = {"description": metric.help, "tag_keys": metric.labels or None}
            if metric.kind == "counter":
                self._made[metric.name] = serve_metrics.Counter(metric.name, **common)
            elif metric.kind == "gauge":
                self._made[metric.name] = serve_metrics.Gauge(metric.name, **common)
            else:
                self._made[metric.name] = serve_metrics.Histogram(
                    metric.name, boundaries=list(metric.buckets), **common
                )

    def add(self, metric: Metric, amount: float, labels: Mapping[str, str]) -> None:
        self._made[metric.name].inc(amount, tags=dict(labels))

    def set(self, metric: Metric, value: float) -> None:
        self._made[metric.name].set(value)

    def observe(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        self._made[metric.name].observe(value, tags=dict(labels))


_backend: Backend | None = None


def _current() -> Backend:
    global _backend
    if _backend is None:
        _backend = PrometheusBackend()
    return _backend


def use_ray() -> None:
    """From now on this process reports through Ray. A replica calls it once, at start."""
    global _backend
    _backend = RayBackend()


def use(backend: Backend) -> None:
    """From now on this process reports to `backend`; tests read one of their own."""
    global _backend
    _backend = backend


def add(metric: Metric, amount: float = 1, **labels: str) -> None:
    if amount > 0:
        _current().add(metric, amount, labels)


def set_value(metric: Metric, value: float) -> None:
    _current().set(metric, value)


def observe(metric: Metric, value: float, **labels: str) -> None:
    _current().observe(metric, value, labels)


@dataclass
class Stages:
    """Milliseconds by stage of one picture: fetch, decode, queue, infer, refine, composite, encode, store, total; or of
    one that was answered from the cache: fetch, cache, total."""

    ms: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        started = perf_counter()
        try:
            yield
        finally:
            self.record(stage, (perf_counter() - started) * 1000)

    def record(self, stage: str, ms: float) -> None:
        """Adds `ms` to `stage`: a stage may run in several pieces."""
        self.ms[stage] = self.ms.get(stage, 0.0) + ms

    def report(self) -> None:
        """Observes every stage once; called when the picture is done."""
        for stage, ms in self.ms.items():
            observe(STAGE_SECONDS, ms / 1000, stage=stage)

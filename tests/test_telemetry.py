"""Metrics are defined once and reach whichever back end the process uses; stage times add up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mattehorn import telemetry
from mattehorn.telemetry import Metric, PrometheusBackend, Stages


class Recorder:
    """A back end that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, float, dict[str, str]]] = []

    def add(self, metric: Metric, amount: float, labels: Mapping[str, str]) -> None:
        self.heard.append(("add", metric.name, amount, dict(labels)))

    def set(self, metric: Metric, value: float) -> None:
        self.heard.append(("set", metric.name, value, {}))

    def observe(self, metric: Metric, value: float, labels: Mapping[str, str]) -> None:
        self.heard.append(("observe", metric.name, value, dict(labels)))


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    before = telemetry._backend
    backend = Recorder()
    telemetry.use(backend)
    yield backend
    telemetry._backend = before


def test_names_are_unique_prefixed_and_explained() -> None:
    names = [metric.name for metric in telemetry.METRICS]
    assert len(names) == len(set(names))
    assert all(name.startswith("mattehorn_") for name in names)
    assert all(metric.help.endswith(".") for metric in telemetry.METRICS)


def test_every_metric_of_the_module_is_in_the_list() -> None:
    defined = {value.name for value in vars(telemetry).values() if isinstance(value, Metric)}
    assert defined == {metric.name for metric in telemetry.METRICS}


def test_the_families_that_operators_rely_on_exist_with_their_labels() -> None:
    found = {metric.name: (metric.kind, metric.labels) for metric in telemetry.METRICS}
    assert found["mattehorn_requests_total"] == ("counter", ("route", "code"))
    assert found["mattehorn_stage_seconds"] == ("histogram", ("stage",))
    assert found["mattehorn_batch_size"] == ("histogram", ())
    assert found["mattehorn_queue_images"] == ("gauge", ())
    assert found["mattehorn_errors_total"] == ("counter", ("code",))
    assert found["mattehorn_image_megapixels"] == ("histogram", ())
    assert found["mattehorn_bytes_total"] == ("counter", ("direction",))


@pytest.mark.parametrize("metric", [m for m in telemetry.METRICS if m.kind == "histogram"], ids=lambda m: m.name)
def test_buckets_rise(metric: Metric) -> None:
    assert metric.buckets
    assert list(metric.buckets) == sorted(set(metric.buckets))


def test_every_metric_can_be_used_with_prometheus_and_shows_its_help() -> None:
    backend = PrometheusBackend()
    for metric in telemetry.METRICS:
        labels = dict.fromkeys(metric.labels, "x")
        if metric.kind == "counter":
            backend.add(metric, 2, labels)
        elif metric.kind == "gauge":
            backend.set(metric, 2)
        else:
            backend.observe(metric, 2, labels)
    families = {f.name: f for f in text_string_to_metric_families(generate_latest(backend.registry).decode())}
    for metric in telemetry.METRICS:
        family = families[metric.name.removesuffix("_total") if metric.kind == "counter" else metric.name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        wanted = {"counter": metric.name, "gauge": metric.name, "histogram": f"{metric.name}_sum"}[metric.kind]
        assert [s.value for s in family.samples if s.name == wanted] == [2]


def test_events_reach_the_back_end_in_use(recorder: Recorder) -> None:
    telemetry.add(telemetry.ERRORS, code="internal")
    telemetry.set_value(telemetry.QUEUE_IMAGES, 3)
    telemetry.observe(telemetry.STAGE_SECONDS, 0.5, stage="infer")
    assert recorder.heard == [
        ("add", "mattehorn_errors_total", 1, {"code": "internal"}),
        ("set", "mattehorn_queue_images", 3, {}),
        ("observe", "mattehorn_stage_seconds", 0.5, {"stage": "infer"}),
    ]


def test_adding_nothing_is_not_an_event(recorder: Recorder) -> None:
    telemetry.add(telemetry.BYTES, 0, direction="out")
    assert recorder.heard == []


def test_a_stage_in_several_pieces_is_reported_once_as_their_sum(recorder: Recorder) -> None:
    stages = Stages()
    stages.record("queue", 20)
    stages.record("queue", 30)
    stages.record("infer", 5)
    stages.report()
    assert stages.ms == {"queue": 50, "infer": 5}
    assert [(value, labels["stage"]) for _, _, value, labels in recorder.heard] == [(0.05, "queue"), (0.005, "infer")]


def test_a_stage_that_fails_is_timed_all_the_same() -> None:
    stages = Stages()
    with pytest.raises(KeyError), stages.timed("decode"):
        raise KeyError("x")
    assert stages.ms["decode"] >= 0

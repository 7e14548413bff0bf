"""Merges what every node agent exports into one Prometheus text: our families, and Ray Serve's own.

An agent's text is 0.3 to 0.7 MB with 150 families: lines are filtered before they are parsed, which takes 0.03 s
instead of 0.9 s. Fed by the ingress deployment, which knows the nodes. Formats by prometheus_client.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_OURS = "ray_mattehorn_"
_WANTED = (_OURS, "ray_serve_")
_NOISE = ("SessionName", "Version")  # the same on every series, or gone after a restart


class _Merged(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)


def merge(texts: Iterable[str]) -> bytes:
    """One valid exposition of all `texts`: each family once, `ray_` stripped from ours, duplicates left out."""
    families: dict[str, Metric] = {}
    seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
    for text in texts:
        for family in text_string_to_metric_families(_wanted_lines(text)):
            merged = families.setdefault(family.name, _empty(family))
            for sample in family.samples:
                slim = _slim(sample)
                key = (slim.name, tuple(sorted(slim.labels.items())))
                if key not in seen:
                    seen.add(key)
                    merged.samples.append(slim)
    return generate_latest(_Merged(families.values()))  # unregistered: a registry refuses names that look alike


def _wanted_lines(text: str) -> str:
    """Only the lines of wanted families, ours without Ray's prefix."""
    kept = []
    for line in text.splitlines():
        name = line.split(" ", 3)[2] if line.startswith("# ") and line.count(" ") >= 2 else line
        if name.startswith(_WANTED):
            kept.append(line.replace(_OURS, _OURS.removeprefix("ray_"), 1))
    return "\n".join(kept) + "\n"


def _empty(family: Metric) -> Metric:
    return Metric(family.name, family.documentation, family.type)


def _slim(sample: Sample) -> Sample:
    labels = {k: v for k, v in sample.labels.items() if k not in _NOISE and not k.startswith("otel_scope_")}
    return sample._replace(labels=labels)

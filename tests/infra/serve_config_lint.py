"""A strict reading of a Ray Serve config: what `ServeDeploySchema` lets pass in silence is a problem here.

Ray drops unknown keys at most levels and looks at neither `autoscaling_config` nor the shape of `route_prefix`
before the config reaches a cluster: `num_gpu` or `target_ongoing_request` would simply do nothing. Starts no Ray.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, BackpressureConfig, RequestRouterConfig
from ray.serve.schema import (
    DeploymentSchema,
    HTTPOptionsSchema,
    LoggingConfig,
    RayActorOptionsSchema,
    ServeApplicationSchema,
    ServeDeploySchema,
    TracingConfig,
    gRPCOptionsSchema,
)

from mattehorn.settings import Settings

# Which model reads the mapping (or each mapping of the list) under a key.
_LEVELS: dict[type[BaseModel], dict[str, type[BaseModel]]] = {
    ServeDeploySchema: {
        "applications": ServeApplicationSchema,
        "grpc_options": gRPCOptionsSchema,
        "http_options": HTTPOptionsSchema,
        "logging_config": LoggingConfig,
        "tracing_config": TracingConfig,
    },
    ServeApplicationSchema: {
        "args": Settings,
        "deployments": DeploymentSchema,
        "logging_config": LoggingConfig,
    },
    DeploymentSchema: {
        "autoscaling_config": AutoscalingConfig,
        "backpressure_config": BackpressureConfig,
        "logging_config": LoggingConfig,
        "ray_actor_options": RayActorOptionsSchema,
        "request_router_config": RequestRouterConfig,
    },
    AutoscalingConfig: {"policy": AutoscalingPolicy},
}
_VALIDATED = (AutoscalingConfig, Settings, ServeDeploySchema)  # the outermost checks the others' values


def problems(config: Any) -> list[str]:
    """One line for each problem, with its place; empty when the config is sound."""
    found = [*_walk(config, ServeDeploySchema, "config")]
    for application in config.get("applications", []) if isinstance(config, dict) else []:
        prefix = application.get("route_prefix", "/")
        if prefix is not None and not str(prefix).startswith("/"):
            found.append(f"route_prefix of {application.get('name')}: {prefix!r} does not start with /")
    return found


def _walk(value: Any, model: type[BaseModel], place: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{place}: a mapping is wanted, got {value!r}"
        return
    for key in value.keys() - _keys(model):
        yield f"{place}: unknown key {key!r}"
    if model in _VALIDATED:
        yield from _validate(value, model, place)
    for key, inner in _LEVELS.get(model, {}).items():
        entries = value.get(key)
        if isinstance(entries, list):
            for number, entry in enumerate(entries):
                yield from _walk(entry, inner, f"{place}.{key}[{number}]")
        elif entries is not None:
            yield from _walk(entries, inner, f"{place}.{key}")


def _keys(model: type[BaseModel]) -> set[str]:
    aliases = {field.alias for field in model.model_fields.values() if field.alias}
    return set(model.model_fields) | aliases


def _validate(value: dict[str, Any], model: type[BaseModel], place: str) -> Iterator[str]:
    try:
        model.model_validate(value)
    except ValidationError as error:
        for item in error.errors():
            yield f"{place}.{'.'.join(map(str, item['loc']))}: {item['msg']}"

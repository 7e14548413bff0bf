"""The only wiring: Settings in, the application of three deployments out. serve_config.yaml imports `build_app`."""

from __future__ import annotations

from typing import Any

from ray.serve import Application

from deployments.compose.deployment import Compose
from deployments.ingress.deployment import Ingress
from deployments.matting.deployment import Matting
from mattehorn.settings import Settings


def build_app(args: dict[str, Any]) -> Application:
    """ingress -> compose -> matting. Replica counts, resources and autoscaling come from serve_config.yaml.

    Raises pydantic's ValidationError, naming the key, for `args` that are no Settings.
    """
    settings = Settings.model_validate(args)
    # to mypy a decorated class is still a class, with no bind
    matting = Matting.bind(settings)  # type: ignore[attr-defined]
    compose = Compose.bind(settings, matting)  # type: ignore[attr-defined]
    app: Application = Ingress.bind(settings, compose)  # type: ignore[attr-defined]
    return app

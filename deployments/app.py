"""The only wiring: Settings in, the application of five deployments out. serve_config.yaml imports `build_app`."""

from __future__ import annotations

import os
from typing import Any

from ray.serve import Application

from deployments.bulk.deployment import Bulk
from deployments.calls import STRONG
from deployments.compose.deployment import Compose
from deployments.config import with_secrets
from deployments.ingress.deployment import Ingress
from deployments.matting.deployment import Matting
from deployments.tally.deployment import Tally
from mattehorn.read_settings import read_settings


def build_app(args: dict[str, Any]) -> Application:
    """ingress -> compose -> matting and, with a stronger model, MattingStrong; ingress -> tally, and
    bulk -> compose and tally. Replica counts, resources and autoscaling come from serve_config.yaml.

    Raises ValueError, naming the key, for `args` that are no Settings.
    """
    settings = with_secrets(read_settings(args), os.environ)
    # to mypy a decorated class is still a class, with no bind
    matting = Matting.bind(settings)  # type: ignore[attr-defined]
    strong = None
    if settings.strong_model:
        beside = settings.model_copy(update={"model": settings.strong_model, "strong_model": None})
        strong = Matting.options(name=STRONG).bind(beside)  # type: ignore[attr-defined]
    compose = Compose.bind(settings, matting, strong)  # type: ignore[attr-defined]
    tally = Tally.bind(settings)  # type: ignore[attr-defined]
    # nobody calls bulk; the ingress holds its handle because an application is what its root leads to
    bulk = Bulk.bind(settings, compose, tally) if settings.bulk.enabled else None  # type: ignore[attr-defined]
    app: Application = Ingress.bind(settings, compose, tally, bulk)  # type: ignore[attr-defined]
    return app

"""Finds and overlays serve_config.yaml. Pure: no Ray, so that the CLI and tests may use it."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import yaml

from mattehorn.key_template import check_template
from mattehorn.settings import Settings, apply_overrides
from mattehorn.store import absolute_url

NAME = "serve_config.yaml"


def default_config() -> Path:
    """serve_config.yaml of a checkout, else the one that the wheel installed."""
    checkout = Path(__file__).parent.parent / NAME
    if checkout.exists():
        return checkout
    for file in importlib.metadata.files("mattehorn") or ():
        if file.name == NAME:
            return Path(str(file.locate()))
    raise FileNotFoundError(f"{NAME} is not installed; name one with --config FILE.")


def load_config(
    path: Path, overrides: list[str], *, host: str | None = None, port: int | None = None
) -> dict[str, Any]:
    """The Serve configuration with overridden Settings, host and port; relative store folders become absolute.

    Raises ValueError for a file that is no YAML or holds no application, unknown settings or a bad override.
    """
    try:
        config = yaml.safe_load(path.read_text("utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is no YAML: {error}") from None
    try:
        application = config["applications"][0]
    except (TypeError, KeyError, IndexError):
        raise ValueError(
            f"{path.name} holds no applications; start from the {NAME} that comes with Mattehorn."
        ) from None
    settings = Settings.model_validate(apply_overrides(application.get("args") or {}, overrides))
    application["args"] = settings.model_dump(mode="json", exclude_defaults=True)
    # replicas run in other folders than this one
    application["args"].setdefault("store", {})["url"] = absolute_url(settings.store.url)
    check_template(settings.store.key_template)
    http = config.setdefault("http_options", {})
    http.update({key: value for key, value in (("host", host), ("port", port)) if value is not None})
    return dict(config)

"""Finds and overlays serve_config.yaml. Pure: no Ray, so that the CLI and tests may use it."""

from __future__ import annotations

import importlib.metadata
import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import SecretStr

from deployments.bulk import parts
from deployments.calls import STRONG
from mattehorn.access.keys_file import read_keys
from mattehorn.errors import OptionError
from mattehorn.queue.open import absolute_queue_url
from mattehorn.read_settings import read_settings
from mattehorn.recipe.own import read_recipes
from mattehorn.settings import Settings, apply_overrides
from mattehorn.store.key_template import check_template
from mattehorn.store.open import absolute_url

NAME = "serve_config.yaml"
LOOPBACK = "127.0.0.1"
FROM_ENVIRONMENT = "env:"  # a secret's value may be env:NAME, so that it stands in no file


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
    """The Serve configuration with overridden Settings, host and port; relative folders and files become absolute.

    Without bulk work it has no bulk replica, without a stronger model no pool for one. Raises ValueError for a file
    that is no YAML or holds no application, unknown settings or a bad override, a keys file that cannot be read, and an
    address beyond this machine without keys (`open_without_keys` allows it).
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
    args = apply_overrides(application.get("args") or {}, overrides)
    settings = read_settings(args)
    # replicas run in other folders than this one
    args["store"] = {**args.get("store", {}), "url": absolute_url(settings.store.url)}
    args["queue"] = {**args.get("queue", {}), "url": absolute_queue_url(settings.queue.url)}
    if settings.recipes_dir:
        args["recipes_dir"] = str(Path(settings.recipes_dir).resolve())
        _check_recipes(args["recipes_dir"])
    application["args"] = args
    check_template(settings.store.key_template)
    _check_routes(Settings.model_validate(args))
    unused = ({"Bulk"} if not settings.bulk.enabled else set()) | ({STRONG} if not settings.strong_model else set())
    if "deployments" in application:
        application["deployments"] = [entry for entry in application["deployments"] if entry["name"] not in unused]
    http = config.setdefault("http_options", {})
    http.update({key: value for key, value in (("host", host), ("port", port)) if value is not None})
    if settings.keys_file is not None:
        args["keys_file"] = _readable_keys(settings.keys_file)
    elif not settings.open_without_keys:
        _require_loopback(str(http.get("host", LOOPBACK)))
    return dict(config)


def _check_recipes(folder: str) -> None:
    """Raises ValueError for recipes that every replica would refuse."""
    try:
        read_recipes(folder)
    except OptionError as error:
        raise ValueError(error.message) from None


def _readable_keys(path: str) -> str:
    """The full path. Raises ValueError for a file that cannot be read now: the service would let nobody in."""
    full = Path(path).resolve()
    try:
        read_keys(full)
    except OSError as error:
        raise ValueError(
            f"The keys file {path} cannot be read ({error.strerror}). Make the first key: mattehorn keys add TENANT "
            f"--scope matte,jobs,admin --file {path}. Or serve without keys: --set keys_file=null, and --set "
            "open_without_keys=true for an address that other machines reach."
        ) from None
    except OptionError as error:
        raise ValueError(f"{error.message} It is {path}.") from None
    return str(full)


def _require_loopback(host: str) -> None:
    """Raises ValueError for an address that other machines may reach."""
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise ValueError(
            f"{host} can be reached from other machines, and no API keys are set. Make a key and name its file: "
            f"mattehorn keys add TENANT --scope matte,jobs,admin && mattehorn serve --host {host} --set "
            f"keys_file=mattehorn-keys.json. Or let everybody in: mattehorn serve --host {host} --set "
            "open_without_keys=true."
        )


def _check_routes(settings: Settings) -> None:
    """Raises ValueError for a route that the bulk replica would refuse, before anything has started."""
    if settings.bulk.routes:
        try:
            parts.make_routes(settings, parts.make_places(settings))
        except OptionError as error:
            raise ValueError(error.message) from None


def with_secrets(settings: Settings, environment: Mapping[str, str]) -> Settings:
    """`settings` with each secret that is `env:NAME` taken from `environment`. Raises ValueError where it is not there.

    For the one place that builds the application: replicas get the values, files and manifests hold the names.
    """
    return settings.model_copy(
        update={
            "bulk": settings.bulk.model_copy(
                update={"webhook_secret": _secret(settings.bulk.webhook_secret, "bulk.webhook_secret", environment)}
            ),
            "events": settings.events.model_copy(
                update={
                    "token": _secret(settings.events.token, "events.token", environment),
                    "hmac_secret": _secret(settings.events.hmac_secret, "events.hmac_secret", environment),
                }
            ),
        }
    )


def _secret(value: SecretStr | None, key: str, environment: Mapping[str, str]) -> SecretStr | None:
    text = value.get_secret_value() if value else ""
    if not text.startswith(FROM_ENVIRONMENT):
        return value
    name = text.removeprefix(FROM_ENVIRONMENT)
    if not environment.get(name):
        raise ValueError(f"{key} is {text}, and the environment variable {name} is not set or empty. Set it.")
    return SecretStr(environment[name])

"""Settings from loose values, and what is wrong with them in words for the operator: which key, what came, what is
allowed. Called where a configuration or `--set` is read; settings.py has the settings themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from mattehorn.settings import Settings

_SHOWN = 60  # characters of a bad value that its error repeats


def read_settings(args: Mapping[Any, Any]) -> Settings:
    """Checked settings. Raises ValueError with a sentence for each bad key; a secret's value is in none."""
    try:
        return Settings.model_validate(args)
    except ValidationError as error:
        said = [_sentence(entry) for entry in error.errors(include_url=False)]
    raise ValueError(" ".join(said))  # outside the handler: pydantic's error holds what came, secrets too


def _sentence(entry: Any) -> str:
    place = entry["loc"]
    key = ".".join(str(part) for part in place)
    match entry["type"]:
        case "extra_forbidden":
            return f"{key}: there is no such setting; {_allowed(place[:-1])}."
        case "missing":
            return f"{key} is missing."
        case "model_type":
            return f"{key} is a section, set by {key}.NAME=VALUE; {_allowed(place)}."
        case "value_error":
            reason = str(entry["ctx"]["error"]).rstrip(".")
            return f"{reason}." if not key or reason.startswith(key) else f"{key}: {reason}."
    for subject in ("Input", "Value"):
        entry["msg"] = entry["msg"].replace(f"{subject} should", "it should")
    return f"{key} {_came(place, entry['input'])}; {entry['msg']}."


def _came(place: Sequence[Any], value: Any) -> str:
    section = _section(place[:-1])
    field = section.model_fields.get(str(place[-1])) if section else None
    secret = field is not None and "Secret" in str(field.annotation)
    if secret or not isinstance(value, str | int | float | None):
        return "has another form"
    return f"is {str(value)[:_SHOWN]}" if value != "" else "is empty"


def _allowed(place: Sequence[Any]) -> str:
    """The names of the section at `place`."""
    section = _section(place)
    if section is None:
        return "docs/operations.md lists all"
    where = f" in {'.'.join(str(part) for part in place)}" if place else ""
    return f"allowed{where}: {', '.join(section.model_fields)}"


def _section(place: Sequence[Any]) -> type[BaseModel] | None:
    """None where `place` leads to a value, or nowhere."""
    section: type[BaseModel] = Settings
    for part in place:
        field = section.model_fields.get(str(part))
        if field is None or not isinstance(field.annotation, type) or not issubclass(field.annotation, BaseModel):
            return None
        section = field.annotation
    return section

"""The cards that Mattehorn knows, and those that a user puts beside own weights in `model_dir`.

A packaged model's card stands beside its weights as JSON, written by the export; a user's own has the same form.
"""

from __future__ import annotations

import functools
import json
import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal

import pydantic

from mattehorn.errors import ModelError, UnknownModel
from mattehorn.models import fake, supplied
from mattehorn.models.base import ModelCard

DEFAULT = "mattehorn-base"
Pool = Literal["fast", "strong"]  # a service's model, and the stronger one beside it
_SUFFIXES = {"torch": ".safetensors", "onnx": ".onnx"}
# a name becomes a file's name: no folders, no "..", none of the signs that follow a name
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@functools.cache
def cards() -> dict[str, ModelCard]:
    """Every card that comes with Mattehorn by name, the default first."""
    folder = resources.files("mattehorn.models") / "weights"
    packaged = [_read_card(path, packaged=True) for path in folder.iterdir() if path.name.endswith(".json")]
    known = [*packaged, fake.CARD, *supplied.CARDS]
    return {card.name: card for card in sorted(known, key=lambda card: (card.name != DEFAULT, card.name))}


def find_card(name: str, model_dir: str | None = None) -> ModelCard:
    """The card of `name`, `name@version` or `NAME=PATH` (own weights under that card).

    A card NAME.json in `model_dir` is found as well, and goes before one of the same name that has no weights. Raises
    UnknownModel, or ModelError for a card in `model_dir` that cannot be read or takes a packaged model's name.
    """
    wanted = name.partition("=")[0]
    plain, _, version = wanted.partition("@")
    known = cards().get(plain)
    card = _own_card(plain, model_dir) if model_dir and _PLAIN_NAME.fullmatch(plain) else None
    if card is not None and known is not None and known.packaged:
        raise ModelError(
            f"model_dir holds a card {plain}.json, and {known.id} is packaged; give your model another name, in the "
            f"file's name and in the card, or remove the card and type {plain}=PATH."
        )
    card = card or known
    if card is None or version not in ("", card.version):
        allowed = ", ".join(card.id for card in cards().values())
        beside = ", and any card NAME.json in model_dir" if model_dir else ""
        raise UnknownModel(f"model is {wanted[:100]}; known: {allowed}{beside}.", field="model")
    return card


@functools.lru_cache(maxsize=8)
def running_cards(model: str, strong_model: str | None, model_dir: str | None) -> dict[Pool, ModelCard]:
    """The cards of what a service runs, as its settings name them. Raises as find_card does."""
    found: dict[Pool, ModelCard] = {"fast": find_card(model, model_dir)}
    return found | ({"strong": find_card(strong_model, model_dir)} if strong_model else {})


def require_running(name: str, *running: ModelCard) -> None:
    """Raises UnknownModel unless `name` is `auto`, or the name or id of a model that runs here."""
    if name != "auto" and not any(name in (card.name, card.id) for card in running):
        raise UnknownModel(
            f"model is {name[:100]}; this service runs {' and '.join(card.id for card in running)} (or auto).",
            field="model",
        )


def _own_card(name: str, model_dir: str) -> ModelCard | None:
    """The card `name`.json in `model_dir`, None without one; read once, for the API asks with every request."""
    path = Path(model_dir) / f"{name}.json"
    if not path.exists():
        return None
    card = _read_card(path, packaged=False)
    if card.name != name or card.kind not in _SUFFIXES:
        raise ModelError(
            f"The card {name}.json in model_dir has name {card.name[:100]} and kind {card.kind}; it takes the file's "
            f"own name and kind {' or '.join(_SUFFIXES)}."
        )
    return card


def _read_card(path: Path | Traversable, *, packaged: bool) -> ModelCard:
    """The card of a JSON file; scores and recipe stay in the file. Its weights lie beside it under the same name."""
    try:
        document: dict[str, Any] = {"kind": "torch", **json.loads(path.read_text("utf-8"))}
        document |= {"packaged": packaged, "weights_file": f"{document.get('name')}{_SUFFIXES.get(document['kind'])}"}
        return pydantic.TypeAdapter(ModelCard).validate_python(document)
    except OSError as error:
        raise ModelError(f"The card {path.name} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise ModelError(f"The card {path.name} is no model card: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, pydantic.ValidationError):
        return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_url=False))
    return f"JSON with one object is expected ({error})"

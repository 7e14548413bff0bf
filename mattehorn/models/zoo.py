"""The cards that Mattehorn knows. A packaged model's card stands beside its weights as JSON, written by the export."""

from __future__ import annotations

import functools
import json
from importlib import resources

from mattehorn.errors import UnknownModel
from mattehorn.models import fake
from mattehorn.models.base import ModelCard

DEFAULT = "mattehorn-slim"


@functools.cache
def cards() -> dict[str, ModelCard]:
    """Every known card by name, the default first."""
    packaged = resources.files("mattehorn.models") / "weights"
    documents = [json.loads(p.read_text("utf-8")) for p in packaged.iterdir() if p.name.endswith(".json")]
    known = [_torch_card(document) for document in documents] + [fake.CARD]
    return {card.name: card for card in sorted(known, key=lambda card: (card.name != DEFAULT, card.name))}


def find_card(name: str) -> ModelCard:
    """The card of `name`, `name@version` or `NAME=PATH` (own weights under that card). Raises UnknownModel."""
    wanted = name.partition("=")[0]
    plain, _, version = wanted.partition("@")
    card = cards().get(plain)
    if card is None or version not in ("", card.version):
        allowed = ", ".join(card.id for card in cards().values())
        raise UnknownModel(f"model is {wanted[:100]}; known: {allowed}.", field="model")
    return card


def _torch_card(document: dict[str, object]) -> ModelCard:
    """A card from the JSON beside packaged weights; scores and recipe stay in the JSON."""
    text = {key: str(document[key]) for key in ("name", "version", "network", "licence", "licence_note", "sha256")}
    return ModelCard(
        kind="torch",
        input_size=int(str(document["input_size"])),
        fit=document["fit"],  # type: ignore[arg-type]
        mean=tuple(document["mean"]),  # type: ignore[arg-type]
        std=tuple(document["std"]),  # type: ignore[arg-type]
        commercial_use=document["commercial_use"],  # type: ignore[arg-type]
        training_sets=tuple(str(name) for name in document["training_sets"]),  # type: ignore[attr-defined]
        weights_file=f"{text['name']}.safetensors",
        **text,
    )

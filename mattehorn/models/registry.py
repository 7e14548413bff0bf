"""From a name to a loaded model. The one place that decides which code runs a card and where its weights lie."""

from __future__ import annotations

import hashlib
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from mattehorn.errors import ModelError
from mattehorn.models.base import Model, ModelCard
from mattehorn.models.fake import FakeModel
from mattehorn.models.zoo import find_card


def load_model(
    name: str,
    *,
    device: str = "cpu",
    threads: int = 1,
    model_dir: str | None = None,
    fake_ms: tuple[float, float] = (0.0, 0.0),
) -> Model:
    """The model of `name` (a card's name, `name@version` or `NAME=PATH`), ready to predict on `device`.

    Raises UnknownModel for a name without a card, ModelError when weights are missing, altered or of another shape,
    or when `device` is not there: never another device in silence.
    """
    card = find_card(name)
    if card.kind == "fake":
        return FakeModel(*fake_ms)
    weights = find_weights(card, path=name.partition("=")[2], model_dir=model_dir)
    from mattehorn.models.torch_model import TorchModel

    return TorchModel(card, weights, device=device, threads=threads)


def find_weights(card: ModelCard, *, path: str = "", model_dir: str | None = None) -> bytes:
    """The weights' bytes: an explicit path, else `model_dir`, else packaged. Known files are checked by sha256."""
    if path:
        return _read(Path(path), f"{card.name}=PATH")
    assert card.weights_file is not None  # every torch card names its file
    supplied = Path(model_dir) / card.weights_file if model_dir else None
    if supplied is not None and supplied.exists():
        data = _read(supplied, "model_dir")
    else:
        data = _read(resources.files("mattehorn.models") / "weights" / card.weights_file, card.id)
    found = hashlib.sha256(data).hexdigest()
    if found != card.sha256:
        raise ModelError(
            f"The weights of {card.id} have sha256 {found[:16]}.., the card says {str(card.sha256)[:16]}..; "
            f"restore the file, or load your own with model: {card.name}=PATH."
        )
    return data


def _read(path: Path | Traversable, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"No weights could be read for {what}: {error.strerror}; name a readable file.") from error

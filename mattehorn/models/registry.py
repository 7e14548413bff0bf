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
    """The model of `name`, ready to predict on `device`.

    `name` is a card's name, also of a card in `model_dir`, `name@version`, or `NAME=PATH`. Raises UnknownModel for a
    name without a card, ModelError when weights are missing, altered or of another shape, when an extra is not
    installed, or when `device` is not there: never another device in silence.
    """
    card = find_card(name, model_dir)
    if card.kind == "fake":
        return FakeModel(*fake_ms)
    weights = find_weights(card, path=name.partition("=")[2], model_dir=model_dir)
    if card.kind == "onnx":
        from mattehorn.models.onnx_model import OnnxModel

        return OnnxModel(card, weights, device=device, threads=threads)
    from mattehorn.models.torch_model import TorchModel

    # a file of one's own has features of its own: the packaged head knows nothing of them
    head = None if "=" in name else find_subject_head(card, model_dir=model_dir)
    return TorchModel(card, weights, device=device, threads=threads, subject_head=head)


def find_weights(card: ModelCard, *, path: str = "", model_dir: str | None = None) -> bytes:
    """The weights' bytes: an explicit path, else `model_dir`, else packaged. Known files are checked by sha256."""
    if path:
        return _read(Path(path), f"{card.name}=PATH")
    assert card.weights_file is not None  # every card but the fake's names its file
    data = _find(card, card.weights_file, model_dir)
    if data is None:
        raise ModelError(
            f"{card.id} comes without weights, and model_dir {'does not hold' if model_dir else 'is not set to give'} "
            f"{card.weights_file}. Put that file into model_dir, or type the model as {card.name}=PATH, for example "
            f"{card.name}=/models/{card.weights_file}."
        )
    found = hashlib.sha256(data).hexdigest()
    if card.sha256 is not None and found != card.sha256:
        raise ModelError(
            f"The weights of {card.id} have sha256 {found[:16]}.., the card says {card.sha256[:16]}..; "
            f"restore the file, or load your own with model: {card.name}=PATH."
        )
    return data


def find_subject_head(card: ModelCard, *, model_dir: str | None = None) -> bytes | None:
    """The bytes of NAME.subject.safetensors, found like the weights and checked by sha256.

    None where the card names none, or is a user's, copied without it. Raises ModelError when it is another.
    """
    if card.subject_sha256 is None:
        return None
    file = f"{card.name}.subject.safetensors"
    data = _find(card, file, model_dir)
    if data is None:
        return None
    if hashlib.sha256(data).hexdigest() != card.subject_sha256:
        raise ModelError(
            f"The card of {card.id} names a subject head of sha256 {card.subject_sha256[:16]}.., and {file} is "
            "another; restore the file, or take subject_sha256 off the card."
        )
    return data


def _find(card: ModelCard, file: str, model_dir: str | None) -> bytes | None:
    """A file of the card's: from `model_dir`, else packaged, else None."""
    supplied = Path(model_dir) / file if model_dir else None
    if supplied is not None and supplied.exists():
        return _read(supplied, "model_dir")
    return _read(resources.files("mattehorn.models") / "weights" / file, card.id) if card.packaged else None


def _read(path: Path | Traversable, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelError(f"No weights could be read for {what}: {error.strerror}; name a readable file.") from error

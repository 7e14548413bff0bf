"""What a model is: a card that describes it and one method that runs it. Everything else is shared code outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Fit = Literal["pad", "stretch", "bucket"]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class ModelCard:
    """Facts of one model, as `/v1/models` shows them.

    `mean` and `std` apply to RGB in 0..1. `pad`: the long side becomes `input_size`, the rest of the square repeats
    the edge, so pictures of any shape share a batch.
    """

    name: str
    version: str
    kind: Literal["torch", "fake"]
    network: str
    input_size: int
    fit: Fit
    mean: Triple
    std: Triple
    licence: str
    commercial_use: Literal["allowed", "unclear", "forbidden"]
    licence_note: str
    training_sets: tuple[str, ...]
    sha256: str | None = None
    weights_file: str | None = None

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"


class Model(Protocol):
    """A loaded model on one device. `predict` is called from one thread at a time."""

    card: ModelCard
    device: str

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Alpha mattes float32 [N, H, W] in 0..1 from RGB uint8 [N, H, W, 3] of one size."""
        ...

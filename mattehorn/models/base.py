"""What a model is: a card that describes it and one method that runs it. Everything else is shared code outside."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mattehorn.alpha import to_uint8

Fit = Literal["pad", "stretch", "bucket"]
Triple = tuple[float, float, float]
Subject = Literal["person", "product", "animal", "car", "graphic", "other"]
SUBJECTS: tuple[Subject, ...] = get_args(Subject)
_Above0 = Annotated[float, Field(gt=0)]
_Side = Annotated[int, Field(ge=32, le=4096, multiple_of=32)]  # the networks halve it five times

Seen = tuple[NDArray[np.uint8], Subject | None]  # alpha [H, W], and what the picture shows


@dataclass(frozen=True)
class ModelCard:
    """Facts of one model, as `/v1/models` shows them.

    fit: `pad` makes the long side `input_size` and repeats the edge in the rest of the square, so pictures of any shape
    share a batch; `stretch` gives up the aspect; `bucket` pads to multiples of 32.
    scale: RGB is divided by 255, or by the picture's own largest value (`max`), before `mean` and `std`.
    output: the network's answer is `alpha` in 0..1, or its smallest and largest value become 0 and 1 (`min_max`).
    restore: how alpha comes back to full size, along the photo's edges (`guided`) or by interpolation (`lanczos`).
    packaged: the weights come with Mattehorn; else a user brings them, and `sha256` None means that any are taken.
    subject_sha256: of the file NAME.subject.safetensors, which tells what a photo shows; None without such a file.
    """

    name: str
    version: str
    kind: Literal["torch", "onnx", "fake"]
    network: str
    input_size: _Side
    fit: Fit
    mean: Triple
    std: tuple[_Above0, _Above0, _Above0]
    licence: str
    commercial_use: Literal["allowed", "unclear", "forbidden"]
    licence_note: str
    training_sets: tuple[str, ...]
    sha256: str | None = None
    weights_file: str | None = None
    packaged: bool = False
    scale: Literal["255", "max"] = "255"
    order: Literal["rgb"] = "rgb"
    output: Literal["alpha", "min_max"] = "alpha"
    restore: Literal["guided", "lanczos"] = "guided"
    subject_sha256: str | None = None

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


@runtime_checkable
class TellsSubjects(Protocol):
    """A model that also knows what a picture shows, from what it computes for alpha anyway."""

    def predict_with_subjects(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[Subject | None]]:
        """What `predict` gives, and each picture's subject; None where these weights cannot tell."""
        ...


def predict_with_subjects(model: Model, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], list[Subject | None]]:
    """Alpha mattes [N, H, W] and N subjects in one pass; the subjects are None from a model that does not tell."""
    if isinstance(model, TellsSubjects):
        return model.predict_with_subjects(images)
    return model.predict(images), [None] * len(images)


def seen_by(model: Model, images: NDArray[np.uint8]) -> list[Seen]:
    """What travels and waits for each picture of a batch: alpha in 8 bits, and its subject."""
    alphas, subjects = predict_with_subjects(model, images)
    return list(zip(to_uint8(alphas), subjects, strict=True))

"""A model without a network, for tests of everything around one: its time is set, its matte is simple but real."""

from __future__ import annotations

import time

import cv2
import numpy as np
from numpy.typing import NDArray

from mattehorn.models.base import ModelCard

CARD = ModelCard(
    name="fake",
    version="1",
    kind="fake",
    network="chroma key",
    input_size=512,
    fit="pad",
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    licence="Apache-2.0",
    commercial_use="allowed",
    licence_note="No weights: the distance of a colour from the top left pixel's.",
    training_sets=(),
    packaged=True,
)

_NEAR, _FAR = (
    24.0,
    72.0,
)  # colour distance on 0..255 at which alpha leaves 0 and reaches 1: above JPEG noise, below hues

_ALPHA = np.clip((np.arange(256, dtype=np.float32) - _NEAR) / (_FAR - _NEAR), 0, 1)


class FakeModel:
    """Keys out the colour of the top left pixel; one batch takes `batch_ms` plus `image_ms` for each picture."""

    def __init__(self, batch_ms: float = 0.0, image_ms: float = 0.0) -> None:
        self.card = CARD
        self.device = "cpu"
        self._batch_s, self._image_s = batch_ms / 1000, image_ms / 1000

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        time.sleep(self._batch_s + self._image_s * len(images))
        return np.stack([_keyed(image) for image in images])


def _keyed(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Alpha [H, W] of one picture: a table over the largest channel distance, to cost little beside the set time."""
    key = (*(float(value) for value in image[0, 0]), 0.0)  # cv2's Scalar has four
    red, green, blue = cv2.split(cv2.absdiff(image, key))  # type: ignore[call-overload]
    return np.asarray(_ALPHA[cv2.max(cv2.max(red, green), blue)], np.float32)

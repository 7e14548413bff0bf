"""What a GPU is given: batches of a few sizes, and the answers of the pictures that were asked about."""

from __future__ import annotations

import numpy as np
import pytest

from deployments.matting.steady import batch_sizes, seen_steadily
from mattehorn.models.base import seen_by
from mattehorn.models.fake import FakeModel


class Counting(FakeModel):
    """The fake model on a device that it only names; `sizes` are the batches it was given."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.sizes: list[int] = []

    def predict(self, images: np.ndarray) -> np.ndarray:
        self.sizes.append(len(images))
        return super().predict(images)


def pictures(count: int) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (count, 16, 16, 3), np.uint8)


@pytest.mark.parametrize(
    ("device", "most", "sizes"),
    [
        ("cuda", 16, [1, 2, 4, 8, 16]),
        ("cuda", 12, [1, 2, 4, 8, 12]),
        ("cuda", 2, [1, 2]),
        ("cuda", 1, [1]),
        ("cpu", 2, [1, 2]),
        ("cpu", 1, [1]),
    ],
)
def test_the_sizes_tried_at_start(device: str, most: int, sizes: list[int]) -> None:
    assert batch_sizes(device, most) == sizes


def test_a_gpu_sees_only_those_sizes_and_every_picture_gets_its_own_answer() -> None:
    model = Counting("cuda")
    for count in range(1, 13):
        images = pictures(count)
        plain = seen_by(FakeModel(), images)
        for (alpha, _), (expected, _) in zip(seen_steadily(model, images, 12), plain, strict=True):
            np.testing.assert_array_equal(alpha, expected)
    assert set(model.sizes) == set(batch_sizes("cuda", 12))


def test_a_cpu_is_given_no_picture_that_nobody_sent() -> None:
    model = Counting("cpu")
    assert len(seen_steadily(model, pictures(3), 8)) == 3
    assert model.sizes == [3]
